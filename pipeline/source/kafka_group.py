"""What a member of a consumer group has: its partitions, and an ear for when they come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kafka import ConsumerRebalanceListener, TopicPartition

from pipeline.ports import SourcePosition


@dataclass(slots=True)
class Partition:
    """A partition that is ours.

    Attributes:
        next: the offset after the last one seen.
        in_flight: offsets that were polled and are not acknowledged.
        empty: places seen to hold no message, to go with the next message.
    """

    next: int
    in_flight: set[int] = field(default_factory=set)
    empty: list[SourcePosition] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Everything before this offset is acknowledged."""
        return min(self.in_flight, default=self.next)


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
