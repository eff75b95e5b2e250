"""Names of places in a topic, for those who know nothing else of Kafka."""

from __future__ import annotations

from pipeline.errors import UsageError

PREFIX = "kafka:"
"""What the partition of a `SourcePosition` in a topic begins with."""


def is_partition(partition: str) -> bool:
    """Whether the partition of a `SourcePosition` is one of a topic."""
    return partition.startswith(PREFIX)


def name_partition(topic: str, number: int) -> str:
    """The partition of a `SourcePosition`."""
    return f"{PREFIX}{topic}:{number}"


def split_partition(partition: str) -> tuple[str, int]:
    """Topic and number of a `SourcePosition`'s partition.

    Raises:
        UsageError: it is not one of Kafka's.
    """
    topic, _, number = partition.removeprefix(PREFIX).rpartition(":")
    if not partition.startswith(PREFIX) or not topic or not number.isdecimal():
        raise UsageError(f"{partition} is no partition of a Kafka topic")
    return topic, int(number)
