"""Follow a topic until told to stop: one batch is with the workers while the one before it is committed.

What was polled is committed to the lake, then acknowledged; a partition that was taken away takes its messages along.
A message that gives no frame goes to the dead letters before the lake says that it holds it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.errors import UnreadableFrameError
from pipeline.ports import Positions, RawFrame, SourcePosition
from pipeline.run.batch import Batch, Item, Standing
from pipeline.run.ingest import Ingestor
from pipeline.run.lake import Lake
from pipeline.run.land import Landed
from pipeline.run.landing import Landing
from pipeline.run.message import restore
from pipeline.run.prepared import Unreadable
from pipeline.run.report import Report
from pipeline.source.kafka_messages import KafkaMessage
from pipeline.source.messages import MessageRules

_POLL_SECONDS = 0.25
_BACKLOG_SECONDS = 0.1
"""Where messages wait, the next of them are fetched within this."""

_SLICE = 16
"""Messages fetched at a time: while the next are, these are hashed and written."""


class MessageSource(Protocol):
    """A log read as a member of a group; see `KafkaSource`."""

    def poll(self, max_messages: int, seconds: float) -> list[KafkaMessage]:
        """Messages that the lake does not hold."""

    def still_mine(self, positions: Iterable[SourcePosition]) -> set[SourcePosition]:
        """Those that nobody else may read now."""

    def acknowledge(self, positions: Sequence[SourcePosition]) -> None:
        """Tell the group how far we are."""

    def ends(self) -> dict[str, int]:
        """By partition, all of them, the offset after the last message."""

    def has_read(self, ends: Mapping[str, int]) -> bool:
        """Whether all before these offsets is acknowledged or in the lake."""


class LetterBox(Protocol):
    """Where messages go that gave no frame; see `DeadLetterSink`."""

    def write(self, message: KafkaMessage, error: UnreadableFrameError) -> None:
        """Hand one over."""

    def flush(self) -> None:
        """Wait until every one is kept."""


class TopicFrames:
    """A topic as the source of a lake: its messages have their numbers already."""

    def __init__(self, source: MessageSource) -> None:
        self._source = source

    def enrol(self, raw: Sequence[tuple[Path, str, int]]) -> list[RawFrame]:
        """Nothing is left to be numbered."""
        if raw:
            raise TypeError("a message of a topic has its number from the broker")
        return []

    def pending(self, held: Positions) -> list[RawFrame]:
        """Nothing: what was left behind is polled again."""
        del held
        return []

    def messages(self) -> Iterator[RawFrame]:
        """Nothing: the log itself is compared."""
        return iter(())

    def acknowledge(self, positions: Sequence[SourcePosition]) -> None:
        """Tell the group how far we are."""
        self._source.acknowledge(positions)


@dataclass(frozen=True, slots=True)
class ConsumeRules:
    """When a batch is taken.

    Attributes:
        messages: what a message may ask for.
        frames: a batch is full with this many messages.
        seconds: a batch that is not full is taken this long after its first message came.
        bulk_frames: most messages in one commit where more are waiting.
        bulk_bytes: about as many bytes of frames.
        held_bytes: most bytes of messages in memory.
        once: return when everything was read that was there.
    """

    messages: MessageRules
    frames: int = 64
    seconds: float = 5.0
    bulk_frames: int = 512
    bulk_bytes: int = 2**29
    held_bytes: int = 128 * 2**20
    once: bool = False


class Consumer:
    """Brings a topic into the lake; for one thread."""

    def __init__(
        self, lake: Lake, ingestor: Ingestor, source: MessageSource, letters: LetterBox, rules: ConsumeRules
    ) -> None:
        self._lake = lake
        self._ingestor = ingestor
        self._source = source
        self._letters = letters
        self._rules = rules
        self._held: dict[SourcePosition, KafkaMessage] = {}

    def consume(self, stopped: Callable[[], bool]) -> Iterator[Report]:
        """Bring in what comes; the batch in hand is committed before it returns.

        Raises:
            TransientError: a service does not answer; nothing is lost, open everything anew and go on.
        """
        goal = self._source.ends() if self._rules.once else {}
        started: Batch | None = None
        with ThreadPoolExecutor(self._lake.workers, thread_name_prefix="land") as threads:
            while not stopped():
                landing = self._gather(threads, stopped, wait=started is None)
                following = self._begin(landing) if landing else None
                if started is not None:
                    yield from self._finish(started)
                started = following
                if self._rules.once and started is None and self._source.has_read(goal):
                    return
            if started is not None:
                yield from self._finish(started)

    def _gather(self, threads: Executor, stopped: Callable[[], bool], *, wait: bool) -> Landing:
        """Messages of one batch: all that wait already, or what comes while a batch fills."""
        rules = self._rules
        landing = Landing(threads, self._lake.originals, rules.messages, rules.held_bytes, _SLICE)
        landing.add(self._source.poll(min(_SLICE, rules.bulk_frames), _POLL_SECONDS if wait else 0.0))
        deadline = time.monotonic() + rules.seconds
        while landing and len(landing) < rules.bulk_frames and landing.estimate_bytes() < rules.bulk_bytes:
            more = self._source.poll(min(_SLICE, rules.bulk_frames - len(landing)), _BACKLOG_SECONDS)
            landing.add(more)
            # While a batch is with the workers nobody waits for another to fill.
            full = len(landing) >= rules.frames or not wait or rules.once
            if not more and (full or stopped() or time.monotonic() >= deadline):
                break
        return landing

    def _begin(self, landing: Landing) -> Batch:
        landed = []
        for message, one in landing.finish():
            self._held[message.position] = message
            landed.append(one)
        return self._ingestor.begin(landed)

    def _finish(self, batch: Batch) -> Iterator[Report]:
        positions = [item.raw.position for item in batch.landed() if item.raw is not None]
        yield from self._ingestor.finish(batch, lambda asked: self._settle(batch, asked))
        for position in positions:
            self._held.pop(position, None)

    def _settle(self, batch: Batch, positions: Sequence[SourcePosition]) -> set[SourcePosition]:
        """What may be committed; its dead letters are kept by then."""
        mine = self._source.still_mine(positions)
        written = False
        for item in batch.landed():
            if item.raw is not None and item.raw.position in mine and _is_dead(item):
                self._write_letter(item.landed, item.result, self._held[item.raw.position])
                written = True
        if written:
            self._letters.flush()
        return mine

    def _write_letter(self, landed: Landed, result: object, message: KafkaMessage) -> None:
        if isinstance(result, Unreadable):
            whole = restore(message, landed, self._lake.originals)
            self._letters.write(whole, UnreadableFrameError(result.code, result.reason))


def _is_dead(item: Item) -> bool:
    return item.standing is not Standing.KNOWN and isinstance(item.result, Unreadable)
