"""A message of a Kafka topic as the pipeline sees it, and the names of places in a topic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pipeline.errors import StoreError
from pipeline.ports import Positions, SourcePosition
from pipeline.source.places import PREFIX, name_partition

OTHER_LOG = (
    "it was deleted and made again, lost its end, or another cluster answers: a new topic needs a name of its own"
)
"""What to say where a topic is not the one that the lake was filled from."""


@dataclass(frozen=True, slots=True)
class KafkaMessage:
    """One message.

    Attributes:
        empty: places just before this one that hold no message and never will: ends of transactions, what was
            aborted, what was compacted away.
    """

    position: SourcePosition
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    empty: tuple[SourcePosition, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of value and headers."""
        return len(self.value or b"") + sum(len(key) + len(content or b"") for key, content in self.headers)

    @property
    def name(self) -> str:
        """What to call its frame where the sender did not."""
        return f"{self.position.partition.removeprefix(PREFIX).replace(':', '-')}-{self.position.offset}"


def list_covered(messages: Iterable[KafkaMessage]) -> list[SourcePosition]:
    """What a commit of these messages should say it holds: their places and the empty ones before them.

    With the empty ones the lake's positions stay one range, and a restart begins where the work is.
    """
    return [position for message in messages for position in (*message.empty, message.position)]


def find_first_missing(held: Positions, partition: str, first: int, end: int) -> int:
    """The first offset from `first` on that the lake does not hold; `end` where it holds them all."""
    return min(held.first_missing(partition, first), end)


def count_expired(held: Positions, partition: str, begin: int) -> int:
    """Offsets just before the oldest that is kept that the lake does not hold; 0 where it holds none before them."""
    last = held.last(partition, before=begin)
    return 0 if last is None else begin - last - 1


def require_same_log(held: Positions, partition: str, end: int) -> None:
    """Refuse a log that ends before what the lake holds of it: messages to come would be taken for known ones.

    A topic that was made anew and is longer by now than what the lake holds cannot be told from the old one.

    Args:
        held: as it stood before the end was asked for.
        partition: of the log.
        end: the offset after its last message that may be read.

    Raises:
        StoreError: it does.
    """
    last = held.last(partition)
    if last is not None and last >= end:
        raise StoreError(f"the lake holds {partition} up to offset {last}, the topic ends before {end}: {OTHER_LOG}")


def convert_record(record: Any, empty: tuple[SourcePosition, ...] = ()) -> KafkaMessage:
    """A message out of the library's record."""
    return KafkaMessage(
        position=SourcePosition(name_partition(record.topic, record.partition), record.offset),
        value=record.value,
        headers=tuple(record.headers or ()),
        empty=empty,
    )
