"""What a member of a consumer group has: its rules, its partitions, what it polled, an ear for what comes and goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kafka import ConsumerRebalanceListener, TopicPartition

from pipeline.errors import StoreError
from pipeline.ports import Positions, SourcePosition
from pipeline.source.kafka_messages import OTHER_LOG, KafkaMessage, convert_record
from pipeline.source.places import name_partition

_LONGEST_EMPTY = 10_000
"""Longer stretches without a message are left out of the positions: they are another range there, no harm."""


@dataclass(frozen=True, slots=True)
class PollRules:
    """How much is taken at once, and how long a reader may be silent.

    Attributes:
        max_bytes: of one poll; a single larger message still comes, alone. As much again may wait in memory.
        busy_seconds: longest time between two polls; after that the group takes the partitions away.
        session_seconds: a reader that was killed is missed after this long.
    """

    max_bytes: int = 256 * 1024 * 1024
    busy_seconds: float = 600.0
    session_seconds: float = 30.0


@dataclass(slots=True)
class Partition:
    """A partition that is ours.

    Attributes:
        name: of it.
        held: what the lake held when it became ours.
        next: the offset after the last one seen.
        in_flight: offsets that were polled and are not acknowledged.
        empty: places seen to hold no message, to go with the next message.
    """

    name: str
    held: Positions
    next: int
    in_flight: set[int] = field(default_factory=set)
    empty: list[SourcePosition] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Everything before this offset is acknowledged."""
        return min(self.in_flight, default=self.next)

    def leaves_out(self, records: Sequence[Any]) -> bool:
        """Whether there are offsets between these records, or before them, that are of none of them."""
        return bool(records) and records[-1].offset - self.next >= len(records)

    def pass_over(self, end: int, begin: int) -> int:
        """Tell places before `end` that never held a message from messages that retention took away unread.

        Returns:
            How many of the latter: all before `begin`, the oldest offset that is kept.
        """
        first = max(self.next, begin)
        if end - first <= _LONGEST_EMPTY:
            self.empty += [SourcePosition(self.name, offset) for offset in range(first, end)]
        return max(0, min(begin, end) - self.next)

    def accept(self, record: Any) -> KafkaMessage | None:
        """The message of a record, None where the lake holds it.

        Raises:
            StoreError: its offset was passed before: the log is another one.
        """
        if record.offset < self.next:
            raise StoreError(f"{self.name} gives offset {record.offset} after {self.next - 1}: {OTHER_LOG}")
        self.next = record.offset + 1
        if self.held.holds(SourcePosition(self.name, record.offset)):
            return None
        message = convert_record(record, tuple(self.empty))
        self.empty.clear()
        self.in_flight.add(record.offset)
        return message


class Waiting:
    """Messages that were polled and are not handed out yet, in order."""

    def __init__(self) -> None:
        self._messages: deque[KafkaMessage] = deque()
        self.size = 0
        """Bytes of them."""

    def __len__(self) -> int:
        return len(self._messages)

    def append(self, message: KafkaMessage) -> None:
        """One more."""
        self._messages.append(message)
        self.size += message.size

    def take(self, most: int, max_bytes: int) -> list[KafkaMessage]:
        """The first of them, so many and so large at most; one that is larger comes alone."""
        taken: list[KafkaMessage] = []
        size = 0
        while self._messages and len(taken) < most:
            if taken and size + self._messages[0].size > max_bytes:
                break
            taken.append(self._messages.popleft())
            size += taken[-1].size
        self.size -= size
        return taken

    def drop(self, partitions: Iterable[TopicPartition]) -> None:
        """Those of these partitions are somebody else's now."""
        names = {name_partition(*partition) for partition in partitions}
        self._messages = deque(message for message in self._messages if message.position.partition not in names)
        self.size = sum(message.size for message in self._messages)


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Called on the library's own thread while ours waits inside `poll` or `close`: notes and returns."""

    def __init__(
        self, lose: Callable[[set[TopicPartition]], None], gain: Callable[[Iterable[TopicPartition]], None]
    ) -> None:
        self._lose = lose
        self._gain = gain

    def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """They are another reader's from now on."""
        self._lose(set(revoked))

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """They are ours, to be read from a place that is yet to be found."""
        partitions = set(assigned)
        self._lose(partitions)
        self._gain(partitions)
