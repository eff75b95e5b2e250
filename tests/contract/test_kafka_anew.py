"""A topic deleted and made again under its name: what the lake holds of the old one is nothing of the new one."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from pipeline.errors import StoreError
from pipeline.ports import SourcePosition
from pipeline.source.connection import KafkaConnection, open_admin
from pipeline.source.kafka import KafkaSource
from pipeline.source.kafka_log import KafkaLog
from pipeline.source.topics import create_topic
from pipeline.store.positions import PositionSet
from tests.kafka_tools import Lake, poll_until, send, work


def hold(topic: str, count: int) -> PositionSet:
    return PositionSet().add(SourcePosition(f"kafka:{topic}:0", offset) for offset in range(count))


def make_anew(broker: KafkaConnection, topic: str) -> None:
    admin = open_admin(broker)
    admin.delete_topics([topic])
    while topic in admin.list_topics():
        time.sleep(0.1)
    admin.close()
    create_topic(broker, topic)


def open_source(broker: KafkaConnection, topic: str, held: PositionSet) -> KafkaSource:
    return KafkaSource(broker, topic, f"test-{secrets.token_hex(6)}", lambda: held)


@pytest.mark.parametrize("sent", [0, 4])
def test_a_topic_that_ends_before_what_the_lake_holds_of_it_is_refused(broker, topic, sent):
    send(broker, topic, [b"frame"] * sent)
    held = hold(topic, 10)
    says = rf"kafka:{topic}:0 .* offset 9.* ends before {sent}.*name of its own"
    with closing(open_source(broker, topic, held)) as source, pytest.raises(StoreError, match=says):
        source.poll(1, 10.0)
    with closing(KafkaLog(broker, topic)) as log:
        with pytest.raises(StoreError, match=says):
            log.list_standings(held)
        with pytest.raises(StoreError, match=says):
            list(log.find_missing(held))


def test_a_topic_that_the_lake_holds_to_its_end_is_none_of_them(broker, topic):
    send(broker, topic, [b"frame"] * 10)
    held = hold(topic, 10)
    with closing(open_source(broker, topic, held)) as source:
        assert source.poll(1, 2.0) == []
    with closing(KafkaLog(broker, topic)) as log:
        (standing,) = log.list_standings(held)
        assert (standing.next, standing.lag) == (10, 0)
        assert list(log.find_missing(held)) == []


@pytest.mark.parametrize("sent", [5, 15])
def test_a_topic_made_anew_under_its_reader_is_refused_however_long_it_is(broker, topic, sent):
    send(broker, topic, [b"old"] * 10)
    lake = Lake()
    with closing(KafkaSource(broker, topic, f"test-{secrets.token_hex(6)}", lake.positions)) as source:
        work(source, lake, lambda: len(lake.values) == 10)
        with ThreadPoolExecutor(1) as thread:
            made = thread.submit(lambda: (make_anew(broker, topic), send(broker, topic, [b"new"] * sent)))
            with pytest.raises(StoreError, match=rf"{topic}.*name of its own"):
                poll_until(source, 1)
            made.result()
