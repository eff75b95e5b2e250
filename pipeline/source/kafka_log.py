"""A Kafka topic looked at from outside its group: what is in the log, what the lake lacks of it, one message again."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from kafka import TopicPartition
from kafka.errors import KafkaError

from pipeline.errors import TransientError, UsageError
from pipeline.ports import Positions, SourcePosition
from pipeline.source.connection import KafkaConnection, explain
from pipeline.source.kafka_messages import (
    KafkaMessage,
    convert_record,
    count_expired,
    find_first_missing,
    require_same_log,
)
from pipeline.source.kafka_records import open_consumer
from pipeline.source.places import name_partition, split_partition
from pipeline.source.topics import require_topic

_ANSWER_MS = 10_000
_CLOSE_MS = 2_000
_AT_ONCE = 32
_POLL_MS = 500


@dataclass(frozen=True, slots=True)
class PartitionStanding:
    """How far a partition's log reaches, and how far the lake has come in it.

    Attributes:
        begin: the oldest offset that is kept.
        end: the offset after the last message that may be read.
        next: the first offset that the lake does not hold.
        expired: offsets just before `begin` that the lake does not hold although it was reading: retention was faster.
    """

    partition: str
    begin: int
    end: int
    next: int
    expired: int

    @property
    def lag(self) -> int:
        """Offsets that the lake has still to come past."""
        return self.end - self.next


class KafkaLog:
    """Reads a topic without taking part in its group. Not for more than one thread."""

    def __init__(self, connection: KafkaConnection, topic: str) -> None:
        """Connect.

        Raises:
            UsageError: credentials are refused, or there is no such topic for this user.
            TransientError: the cluster does not answer.
        """
        self._topic = topic
        self._seconds = connection.seconds
        self._consumer = open_consumer(connection, group_id=None)
        try:
            self._partitions = require_topic(self._consumer, topic)
        except BaseException:
            self.close()
            raise

    def list_ranges(self) -> dict[str, tuple[int, int]]:
        """By partition the oldest offset that is kept and the one after the last that may be read.

        Not every offset in between is a message; `find_missing` knows.

        Raises:
            TransientError: the cluster does not answer.
        """
        try:
            begins = self._consumer.beginning_offsets(self._partitions, timeout_ms=_ANSWER_MS)
            ends = self._consumer.end_offsets(self._partitions, timeout_ms=_ANSWER_MS)
        except KafkaError as error:
            raise explain(error, f"cannot ask how far {self._topic} reaches") from error
        return {name_partition(*part): (begins[part], ends[part]) for part in self._partitions}

    def list_standings(self, held: Positions) -> list[PartitionStanding]:
        """How far the lake has come in each partition.

        Raises:
            StoreError: a partition ends before what the lake holds of it; see `require_same_log`.
            TransientError: the cluster does not answer.
        """
        standings = []
        for partition, (begin, end) in self._list_ranges_of(held).items():
            first = find_first_missing(held, partition, begin, end)
            standings.append(PartitionStanding(partition, begin, end, first, count_expired(held, partition, begin)))
        return standings

    def count(self) -> int:
        """Places between the oldest message that is kept and the end.

        Raises:
            TransientError: the cluster does not answer.
        """
        return sum(end - begin for begin, end in self.list_ranges().values())

    def find_missing(self, held: Positions, ends: Mapping[str, int] | None = None) -> Iterator[SourcePosition]:
        """Messages that the log has and the lake does not hold; only where it does not hold them is the log read.

        Args:
            held: what the lake holds.
            ends: by partition the offset to stop before; others are left out. None: all there is.

        Raises:
            StoreError: a partition ends before what the lake holds of it; see `require_same_log`.
            TransientError: the cluster does not answer.
        """
        for partition, (begin, end) in self._list_ranges_of(held).items():
            stop = end if ends is None else min(end, ends.get(partition, begin))
            at = find_first_missing(held, partition, begin, stop)
            while at < stop:
                for message in self.read(partition, at, stop):
                    if held.holds(message.position):
                        at = find_first_missing(held, partition, message.position.offset, stop)
                        break
                    yield message.position
                else:
                    break

    def read(self, partition: str, first: int, end: int) -> Iterator[KafkaMessage]:
        """The messages at the offsets from `first` on that come before `end`, as far as there are any.

        Raises:
            TransientError: the cluster does not answer.
        """
        place = TopicPartition(*split_partition(partition))
        if place not in self._partitions:
            raise UsageError(f"{partition} is no partition of topic {self._topic}")
        try:
            self._consumer.assign([place])
            end = min(end, self._consumer.end_offsets([place], timeout_ms=_ANSWER_MS)[place])
            first = max(first, self._consumer.beginning_offsets([place], timeout_ms=_ANSWER_MS)[place])
            self._consumer.seek(place, first)
            deadline = time.monotonic() + self._seconds
            # A place without a message, the end of a transaction, moves the position as well.
            while first < end:
                batch = self._consumer.poll(timeout_ms=_POLL_MS, max_records=_AT_ONCE)
                yield from _choose(batch.get(place, []), end)
                reached = self._consumer.position(place, timeout_ms=_ANSWER_MS) or first
                if reached > first:
                    first, deadline = reached, time.monotonic() + self._seconds
                elif time.monotonic() > deadline:
                    raise TransientError(f"{partition} gives nothing at offset {first} of {end}; is the cluster up?")
        except KafkaError as error:
            raise explain(error, f"cannot read topic {self._topic}") from error

    def find(self, position: SourcePosition) -> KafkaMessage | None:
        """The message at a place, None where there is none any more.

        Raises:
            TransientError: the cluster does not answer.
        """
        return next(self.read(position.partition, position.offset, position.offset + 1), None)

    def close(self) -> None:
        """Disconnect."""
        with suppress(KafkaError):
            self._consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)

    def _list_ranges_of(self, held: Positions) -> dict[str, tuple[int, int]]:
        """`list_ranges`, of the log that the lake was filled from."""
        ranges = self.list_ranges()
        for partition, (_, end) in ranges.items():
            require_same_log(held, partition, end)
        return ranges


def _choose(records: Sequence[object], end: int) -> list[KafkaMessage]:
    messages = [convert_record(record) for record in records]
    return [message for message in messages if message.position.offset < end]
