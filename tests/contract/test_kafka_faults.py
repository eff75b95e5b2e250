"""A reader of a topic at moments that go wrong, and what is left of a topic that several read."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError

from pipeline.errors import StoreError, TransientError
from pipeline.ports import SourcePosition
from pipeline.source.connection import KafkaConnection, open_admin, open_client
from pipeline.source.kafka import KafkaSource
from pipeline.source.kafka_log import KafkaLog
from pipeline.source.kafka_messages import count_expired
from pipeline.store.positions import PositionSet
from tests.kafka_tools import Lake, make_topic, poll_until, work
from tests.ports import find_free_ports


@pytest.fixture
def topic(broker) -> Iterator[str]:
    with make_topic(broker, partitions=2) as name:
        yield name


def open_source(broker: KafkaConnection, topic: str, lake: Lake) -> KafkaSource:
    return KafkaSource(broker, topic, f"test-{secrets.token_hex(6)}", lake.positions)


def transact(broker: KafkaConnection, topic: str, batches: list[list[tuple[int, bytes]]]) -> None:
    """One transaction a batch of (partition, value): each ends with a place that holds no message."""
    producer = KafkaProducer(**broker.options(), transactional_id=secrets.token_hex(6))
    producer.init_transactions()
    for batch in batches:
        producer.begin_transaction()
        for partition, value in batch:
            producer.send(topic, value, partition=partition)
        producer.commit_transaction()
    producer.close()


def hold(topic: str, partition: int, *offsets: int) -> list[SourcePosition]:
    return [SourcePosition(f"kafka:{topic}:{partition}", offset) for offset in offsets]


def test_a_broker_lost_while_a_gap_is_looked_at_loses_no_message(broker, topic):
    sent = [[(number % 2, b"%02d" % number)] for number in range(20)]
    transact(broker, topic, sent)
    lake, failed = Lake(), []
    with closing(open_source(broker, topic, lake)) as source:
        source.poll(1, 0.0)
        ask = source._consumer.beginning_offsets

        def fail_at_gaps(*given, **more):
            if len(source._ours) == 2 and len(failed) < 3:
                failed.append(given)
                raise KafkaTimeoutError("no answer")
            return ask(*given, **more)

        source._consumer.beginning_offsets = fail_at_gaps
        got = poll_until(source, 20)
        assert source.poll(1, 0.5) == []
    assert len(failed) == 3
    assert sorted(message.value for message in got) == [value for ((_, value),) in sent]
    lake.commit(got)
    # 10 messages a partition, and the ends of transactions between them.
    assert lake.held == PositionSet().add([*hold(topic, 0, *range(19)), *hold(topic, 1, *range(19))])


def test_an_offset_that_comes_again_is_no_message_of_this_log(broker, topic):
    transact(broker, topic, [[(0, b"a"), (0, b"b")]])
    lake = Lake()
    with closing(open_source(broker, topic, lake)) as source:
        work(source, lake, lambda: len(lake.values) == 2)
        # As where the broker lost the end of the log and was given other messages since.
        source._consumer.seek(TopicPartition(topic, 0), 0)
        with pytest.raises(StoreError, match=rf"kafka:{topic}:0 .*offset 0 .*name of its own"):
            poll_until(source, 1, 5.0)


def test_the_end_of_a_transaction_is_waited_for_by_nobody(broker, topic):
    transact(broker, topic, [[(0, b"a"), (0, b"b"), (1, b"c")]])
    lake = Lake()
    # It never polls: both partitions are another reader's.
    with closing(open_source(broker, topic, lake)) as source:
        ends = source.ends()
        assert ends == {f"kafka:{topic}:0": 3, f"kafka:{topic}:1": 2}
        assert not source.has_read(ends)
        lake.held = PositionSet().add([*hold(topic, 0, 0), *hold(topic, 1, 0)])
        assert not source.has_read(ends)
        lake.held = lake.held.add(hold(topic, 0, 1))
        assert source.has_read(ends)


def test_a_hole_before_what_another_reader_brought_is_seen(broker, topic):
    transact(broker, topic, [[(0, b"a"), (0, b"b"), (0, b"c")]])
    lake = Lake()
    with closing(open_source(broker, topic, lake)) as source:
        ends = source.ends()
        lake.held = PositionSet().add(hold(topic, 0, 0, 2, 3))
        assert not source.has_read(ends)
        lake.held = lake.held.add(hold(topic, 0, 1))
        assert source.has_read(ends)


def delete_records(broker: KafkaConnection, topic: str, before: int) -> None:
    admin = open_admin(broker)
    admin.delete_records({TopicPartition(topic, 0): before})
    admin.close()


def test_messages_that_expired_unread_are_waited_for_by_nobody(broker, topic):
    transact(broker, topic, [[(0, b"a"), (0, b"b"), (0, b"c"), (0, b"d")]])
    with closing(open_source(broker, topic, Lake())) as source:
        ends = source.ends()
        assert not source.has_read(ends)
        delete_records(broker, topic, 2)
        assert not source.has_read(ends)
        delete_records(broker, topic, 5)
        assert source.has_read(ends)


def test_the_log_is_read_only_when_what_was_missing_has_come(broker, topic, monkeypatch):
    transact(broker, topic, [[(0, b"a"), (0, b"b"), (0, b"c")]])
    reads: list[int] = []
    read = KafkaLog.read

    def note(self, partition, first, end):
        reads.append(first)
        return read(self, partition, first, end)

    monkeypatch.setattr(KafkaLog, "read", note)
    lake = Lake()
    with closing(open_source(broker, topic, lake)) as source:
        ends = source.ends()
        for count in (0, 0, 0, 2, 2, 4, 4):
            lake.held = PositionSet().add(hold(topic, 0, *range(count)))
            assert source.has_read(ends) == (count == 4)
    assert reads == [0, 2]


def test_what_retention_took_is_counted_by_ranges():
    held = PositionSet().add([*hold("t", 0, 5, 6), *hold("t", 0, 10**12)])
    # As many steps as there are offsets would not end today.
    assert count_expired(held, "kafka:t:0", 10**11) == 10**11 - 7
    assert count_expired(held, "kafka:t:0", 7) == 0
    assert count_expired(held, "kafka:t:0", 6) == 0
    assert count_expired(held, "kafka:t:0", 5) == 0
    assert count_expired(held, "kafka:t:1", 10**11) == 0


@pytest.mark.parametrize("make", [KafkaAdminClient, KafkaConsumer, KafkaProducer])
def test_an_attempt_that_nobody_answers_leaves_nothing_running(make):
    """A night's outage has thousands of them, and the library leaves each one's thread behind."""
    before = set(threading.enumerate())
    with pytest.raises(TransientError, match="cannot be reached within"):
        open_client(make, KafkaConnection(bootstrap=f"127.0.0.1:{find_free_ports(1)}", seconds=0.5))
    assert set(threading.enumerate()) <= before
