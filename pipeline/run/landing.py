"""Messages on their way to the originals: threads hash and write them while the next are fetched."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from pipeline.ports import OriginalStore
from pipeline.run.land import Landed
from pipeline.run.message import land_message, lighten
from pipeline.source.kafka_messages import KafkaMessage
from pipeline.source.messages import MessageRules


@dataclass(slots=True)
class Landing:
    """The messages of one batch.

    Attributes:
        threads: where they are worked on.
        originals: where their contents are kept.
        rules: what a message may ask for.
        most_bytes: most bytes of messages in memory; who adds more waits.
        most_messages: most of them under way, likewise: what a claim check names is in no message.
        landed: those that are done, in order, each message without what is kept elsewhere.
    """

    threads: Executor
    originals: OriginalStore
    rules: MessageRules
    most_bytes: int
    most_messages: int
    landed: list[tuple[KafkaMessage, Landed]] = field(default_factory=list)
    _under_way: deque[tuple[KafkaMessage, Future[Landed]]] = field(default_factory=deque)
    _bytes: int = 0
    _content_bytes: int = 0

    def __len__(self) -> int:
        """Messages of the batch so far."""
        return len(self.landed) + len(self._under_way)

    def add(self, messages: Iterable[KafkaMessage]) -> None:
        """Begin with these.

        Raises:
            TransientError: a copy cannot be written, or the disk of a claim check does not answer.
        """
        for message in messages:
            self._under_way.append((message, self.threads.submit(land_message, message, self.originals, self.rules)))
            self._bytes += message.size
            while self._bytes > self.most_bytes or len(self._under_way) > self.most_messages:
                self._settle()

    def estimate_bytes(self) -> int:
        """About as many bytes of frames: those under way count as much as those that are done.

        Raises:
            TransientError: as `add`.
        """
        if self._under_way and not self.landed:
            self._settle()
        return self._content_bytes * len(self) // max(1, len(self.landed))

    def finish(self) -> Iterator[tuple[KafkaMessage, Landed]]:
        """Wait for the last; each message with what became of it, in order.

        Raises:
            TransientError: as `add`.
        """
        while self._under_way:
            self._settle()
        yield from self.landed

    def _settle(self) -> None:
        message, future = self._under_way.popleft()
        landed = future.result()
        self._bytes -= message.size
        self._content_bytes += landed.size
        self.landed.append((lighten(message, landed), landed))
