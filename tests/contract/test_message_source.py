"""What every source of frames does, a spool directory and a Kafka topic alike: places that only grow, and a lake that
decides what comes again. What only one of them does is in a suite of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import pytest

from pipeline.ports import Positions, SourcePosition
from pipeline.source.connection import KafkaConnection
from pipeline.source.kafka import KafkaSource
from pipeline.source.spool import SpoolSource
from pipeline.store.positions import PositionSet
from tests.kafka_tools import make_topic, poll_until, send
from tests.stack import require_stack

Message = tuple[SourcePosition, str]


class Source(Protocol):
    """A source as this suite sees it."""

    def deliver(self, contents: list[bytes]) -> None: ...

    def read(self, held: Positions, expected: int) -> list[Message]:
        """Start anew, as after a kill, and take what the lake does not hold: place and sha256 of each."""

    def read_and_acknowledge(self, held: Positions, expected: int) -> list[Message]: ...


class Spool:
    """Files in one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._journal = directory.parent / "spool.db"
        directory.mkdir()

    def deliver(self, contents: list[bytes]) -> None:
        with closing(SpoolSource(self._journal)) as source:
            for content in contents:
                path = self._directory / f"{secrets.token_hex(8)}.fits"
                source.enrol([(path, sha256(content).hexdigest(), len(content))])

    def read(self, held: Positions, expected: int) -> list[Message]:
        with closing(SpoolSource(self._journal)) as source:
            return [(raw.position, raw.frame_id) for raw in source.pending(held)][: expected + 1]

    def read_and_acknowledge(self, held: Positions, expected: int) -> list[Message]:
        with closing(SpoolSource(self._journal)) as source:
            raws = source.pending(held)[:expected]
            source.acknowledge([raw.position for raw in raws])
            return [(raw.position, raw.frame_id) for raw in raws]


class Topic:
    """A topic of one partition, read by one group."""

    def __init__(self, connection: KafkaConnection, topic: str) -> None:
        self._connection, self._topic, self._group = connection, topic, f"test-{secrets.token_hex(6)}"

    def deliver(self, contents: list[bytes]) -> None:
        send(self._connection, self._topic, contents)

    def read(self, held: Positions, expected: int) -> list[Message]:
        return self._read(held, expected, acknowledge=False)

    def read_and_acknowledge(self, held: Positions, expected: int) -> list[Message]:
        return self._read(held, expected, acknowledge=True)

    def _read(self, held: Positions, expected: int, *, acknowledge: bool) -> list[Message]:
        with closing(KafkaSource(self._connection, self._topic, self._group, lambda: held)) as source:
            # One more is asked for: too many would show.
            messages = poll_until(source, expected, 30.0) + source.poll(1, 0.5)
            if acknowledge:
                source.acknowledge([message.position for message in messages])
            return [(message.position, sha256(message.value or b"").hexdigest()) for message in messages]


@pytest.fixture(params=["spool", "kafka"])
def source(request, tmp_path) -> Iterator[Source]:
    if request.param == "spool":
        yield Spool(tmp_path / "spool")
        return
    broker = KafkaConnection(bootstrap=f"127.0.0.1:{require_stack().port('kafka')}", seconds=10.0)
    with make_topic(broker) as topic:
        yield Topic(broker, topic)


def contents_of(count: int, start: int = 0) -> list[bytes]:
    return [b"frame %06d" % number for number in range(start, start + count)]


def ids_of(contents: list[bytes]) -> list[str]:
    return [sha256(content).hexdigest() for content in contents]


def test_everything_comes_in_order_at_places_that_only_grow(source):
    contents = contents_of(7)
    source.deliver(contents)
    read = source.read(PositionSet(), 7)
    assert [frame_id for _, frame_id in read] == ids_of(contents)
    assert all(a.partition == b.partition and a.offset < b.offset for (a, _), (b, _) in pairwise(read))


def test_a_place_and_its_content_are_the_same_each_time(source):
    source.deliver(contents_of(4))
    first = source.read(PositionSet(), 4)
    assert source.read(PositionSet(), 4) == first


def test_what_the_lake_holds_does_not_come_and_the_rest_does(source):
    contents = contents_of(6)
    source.deliver(contents)
    read = source.read(PositionSet(), 6)
    held = PositionSet().add(place for place, _ in read[:2])
    assert source.read(held, 4) == read[2:]
    # With a hole: another worker may have been faster with a later one.
    held = PositionSet().add([read[0][0], read[3][0]])
    assert source.read(held, 4) == [read[1], read[2], read[4], read[5]]


def test_acknowledging_takes_nothing_away_from_a_lake_that_does_not_hold_it(source):
    source.deliver(contents_of(3))
    read = source.read_and_acknowledge(PositionSet(), 3)
    assert source.read(PositionSet(), 3) == read


def test_what_comes_later_has_later_places(source):
    source.deliver(contents_of(2))
    first = source.read(PositionSet(), 2)
    source.deliver(contents_of(2, start=2))
    held = PositionSet().add(place for place, _ in first)
    second = source.read(held, 2)
    assert [frame_id for _, frame_id in second] == ids_of(contents_of(2, start=2))
    assert first[-1][0] < second[0][0]


def test_the_same_content_twice_is_two_messages(source):
    source.deliver([b"the same", b"the same"])
    read = source.read(PositionSet(), 2)
    assert len({place for place, _ in read}) == 2
    assert len({frame_id for _, frame_id in read}) == 1
