"""One pass over a spool or a list of files, in batches that can each be tried again: what a scheduled flow does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from pipeline.errors import UsageError
from pipeline.ports import Spool
from pipeline.run.batch import IngestRequest
from pipeline.run.explain import find_verdict
from pipeline.run.ingest import Ingestor
from pipeline.run.lake import Lake
from pipeline.run.land import expand_paths, split_batches
from pipeline.run.report import Report
from pipeline.run.stored import load_detections
from pipeline.run.watch import keep_settled

_SETTLE_SECONDS = 1.0


def plan_spool(lake: Lake, directory: Path, size: int) -> list[list[Path]]:
    """What waits in a spool, in batches; one empty batch where only an interrupted run left something to finish.

    Raises:
        UsageError: the directory is not there.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory; create it or name another spool")
    waiting = keep_settled(cast("Spool", lake.source).list_new(directory), _SETTLE_SECONDS)
    batches = list(split_batches(waiting, size))
    left_behind = not batches and lake.source.pending(lake.tables.positions("deliveries"))
    return [[]] if left_behind else batches


def plan_files(paths: Sequence[str], size: int) -> list[list[Path]]:
    """Files, directories and patterns, in batches, in the order given."""
    return list(split_batches(expand_paths(paths), size))


class Sweep:
    """Ingests batch after batch; a batch that failed may be given again. Use as a context manager."""

    def __init__(self, lake: Lake, request: IngestRequest, *, spool: bool = False) -> None:
        self._lake = lake
        self._request = request
        self._spool = spool
        self._ingestor: Ingestor | None = None

    def __enter__(self) -> Self:
        """The ingestor starts with the first batch."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the workers."""
        self._drop(kind, error, trace)

    def ingest(self, paths: Sequence[Path]) -> list[Report]:
        """Bring one batch in and mark it as seen; what each file is, in the order given."""
        ingestor = self._ingestor = self._ingestor or Ingestor(self._lake, self._request)
        try:
            reports = list(ingestor.ingest(paths, max(1, len(paths))))
        except BaseException as error:
            # After a fault the lake alone knows what was done: the next try starts from what it holds.
            self._drop(type(error), error, error.__traceback__)
            raise
        if self._spool:
            # A file that could not be read is listed again.
            unread = {report["name"] for report in reports if report["frame_id"] is None}
            cast("Spool", self._lake.source).mark_seen([path for path in paths if path.name not in unread])
        return reports

    def _drop(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        ingestor, self._ingestor = self._ingestor, None
        if ingestor is not None:
            ingestor.__exit__(kind, error, trace)


def draw_frame(lake: Lake, frame_id: str) -> bytes:
    """The picture that explains the newest verdict of a frame, as PNG."""
    # Drawing loads slowly and most runs flag nothing.
    from pipeline.run.picture import explain_picture  # noqa: PLC0415

    verdict = find_verdict(lake.tables, frame_id)
    detections = load_detections(lake.tables, [verdict["verdict_id"]]).get(verdict["verdict_id"], [])
    return explain_picture(
        lake.originals, lake.tables, verdict, detections, limits=lake.plan.limits, models=lake.models
    )
