"""Follow a spool until told to stop: small batches when frames trickle, large ones when there is a backlog."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.ports import Spool
from pipeline.run.ingest import Ingestor
from pipeline.run.report import Report

# One too large to hash in time must not take up the time of the others.
_LONGEST_REST = 600.0


@dataclass(frozen=True, slots=True)
class WatchRules:
    """When a batch is taken.

    Attributes:
        frames: a batch is full with this many files.
        seconds: a batch that is not full is taken this long after its first file was seen.
        bulk_frames: most files in one commit where more are waiting.
        settle_seconds: a file changed more recently may still be written.
        poll_seconds: pause between looks.
        retry_seconds: a file that could not be read is tried again after this long, then each time after twice as long,
            up to ten minutes.
    """

    frames: int = 64
    seconds: float = 5.0
    bulk_frames: int = 512
    settle_seconds: float = 1.0
    poll_seconds: float = 0.25
    retry_seconds: float = 30.0


def watch_spool(
    ingestor: Ingestor, spool: Spool, directory: Path, rules: WatchRules, stopped: Callable[[], bool]
) -> Iterator[Report]:
    """Ingest what appears in a directory; returns when `stopped` says so, after the batch in hand is committed.

    Raises:
        UsageError: the directory is not there.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory; create it or name another spool")
    # What a killed run left behind does not wait for the next frame.
    yield from ingestor.ingest([])
    first_seen: float | None = None
    refused = _Refused(rules.retry_seconds)
    while not stopped():
        listed = keep_settled(spool.list_new(directory), rules.settle_seconds)
        waiting = [path for path in listed if refused.is_due(path.name)]
        if waiting and first_seen is None:
            first_seen = time.monotonic()
        due = first_seen is not None and time.monotonic() - first_seen >= rules.seconds
        if waiting and (due or len(waiting) >= rules.frames):
            batch = waiting[: rules.bulk_frames]
            for report in ingestor.ingest(batch):
                refused.note(report["name"], again=report["frame_id"] is None)
                yield report
            spool.mark_seen([path for path in batch if path.name not in refused])
            first_seen = None
        else:
            time.sleep(rules.poll_seconds)


class _Refused:
    """Files that could not be read, and when each is tried again."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._pauses: dict[str, float] = {}
        self._due: dict[str, float] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._due

    def is_due(self, name: str) -> bool:
        return time.monotonic() >= self._due.get(name, 0.0)

    def note(self, name: str, *, again: bool) -> None:
        if not again:
            self._pauses.pop(name, None)
            self._due.pop(name, None)
            return
        self._pauses[name] = min(2 * self._pauses[name], _LONGEST_REST) if name in self._pauses else self._seconds
        self._due[name] = time.monotonic() + self._pauses[name]


def keep_settled(paths: Sequence[Path], seconds: float) -> list[Path]:
    """The files that nobody has changed for so long; a younger one may still be written."""
    settled: list[Path] = []
    for path in paths:
        try:
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue
        # A clock that runs ahead on the writer's machine must not hide a file for ever.
        if age >= seconds or age < -seconds:
            settled.append(path)
    return settled
