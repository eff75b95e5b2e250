"""What the lake lacks of a topic, asked again and again while other readers are at work."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.ports import Positions, SourcePosition
from pipeline.source.connection import KafkaConnection
from pipeline.source.kafka_log import KafkaLog


class Rest:
    """Messages of a topic that the lake does not hold; the log is read again when one that was missing has come."""

    def __init__(self, connection: KafkaConnection, topic: str) -> None:
        """Connects when there is something to ask."""
        self._connection = connection
        self._topic = topic
        self._log: KafkaLog | None = None
        self._missing: dict[str, SourcePosition] = {}

    def is_empty(self, held: Positions, ends: Mapping[str, int]) -> bool:
        """Whether the lake holds every message before these offsets.

        Ends of transactions, and what retention took, are no messages: the lake need not hold their places.

        Args:
            held: what the lake holds.
            ends: by partition the offset to stop before.

        Raises:
            StoreError: the topic is not the one that the lake was filled from.
            TransientError: the cluster does not answer.
        """
        asked = {partition: end for partition, end in ends.items() if held.first_missing(partition, 0) < end}
        if not asked:
            return True
        if self._log is None:
            self._log = KafkaLog(self._connection, self._topic)
        ranges = self._log.list_ranges()
        for partition, known in self._missing.items():
            if partition in asked and known.offset >= ranges[partition][0] and not held.holds(known):
                return False
        for partition, end in asked.items():
            missing = next(self._log.find_missing(held, {partition: end}), None)
            if missing is not None:
                self._missing[partition] = missing
                return False
        return True

    def close(self) -> None:
        """Disconnect."""
        if self._log is not None:
            self._log.close()
