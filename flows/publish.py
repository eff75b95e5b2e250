"""Artifacts of a run: progress while it works, then a table, the story and a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast
from uuid import UUID

from prefect import State
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.states import Completed, Failed

from flows import artifacts
from flows.artifacts import Line
from pipeline.run.curves import draw_curves
from pipeline.run.sensitivity import Curve


def track(key: str, batches: Sequence[Sequence[Path]]) -> Iterator[tuple[int, Sequence[Path]]]:
    """Number the batches; a progress artifact moves each time one is done."""
    total = sum(len(batch) for batch in batches)
    artifact = cast("UUID", create_progress_artifact(0.0, key=f"{key}-progress", description=f"0 of {total} frames"))
    done = 0
    for number, batch in enumerate(batches, 1):
        yield number, batch
        done += len(batch)
        text = f"{done} of {total} frames, {number} of {len(batches)} batches"
        # A pass that only finishes what an interrupted one left behind has no frames of its own.
        update_progress_artifact(artifact, progress=100.0 * done / total if total else 100.0, description=text)


def track_count(key: str, every: int) -> Callable[[int], None]:
    """A function to call with how many frames are done, where nobody knows how many will come."""
    artifact = cast("UUID", create_progress_artifact(0.0, key=f"{key}-progress", description="no frame yet"))

    def tell(done: int) -> None:
        # It never shows a hundred before the end: half of what is left for each further batch.
        if done % every == 0:
            share = 100.0 * (1.0 - 0.5 ** (done // every))
            update_progress_artifact(artifact, progress=share, description=f"{done} frames so far")

    return tell


def track_steps(key: str, steps: Sequence[str]) -> Callable[[str, int, int], None]:
    """A function to call with (step, done, total): a progress artifact follows, a hundred times at most."""
    artifact = cast("UUID", create_progress_artifact(0.0, key=f"{key}-progress", description="starting"))
    reached = 0

    def tell(step: str, done: int, total: int) -> None:
        nonlocal reached
        share = (steps.index(step) + (done / total if total else 1.0)) / len(steps)
        if int(100 * share) > reached:
            reached = int(100 * share)
            update_progress_artifact(artifact, progress=float(reached), description=f"{step}: {done} of {total}")

    return tell


def publish_reports(key: str, title: str, reports: Sequence[Line], checks: Sequence[Line] | None = None) -> None:
    """The table of verdicts, flagged first, and the story of the run."""
    create_markdown_artifact(
        artifacts.tell_reports(title, reports, checks), key=f"{key}-summary", description="What this run found"
    )
    create_table_artifact(
        artifacts.tabulate_reports(reports), key=f"{key}-verdicts", description=artifacts.summarise_reports(reports)
    )


def publish_checks(checks: Sequence[Line], *, repaired: bool) -> None:
    """The table of comparisons and what it means."""
    create_markdown_artifact(
        artifacts.tell_checks(checks, repaired=repaired), key="verify-summary", description="Do all stores agree?"
    )
    create_table_artifact(
        artifacts.tabulate_checks(checks), key="verify-checks", description=artifacts.summarise_checks(checks)
    )


def publish_story(key: str, story: str, rows: list[dict[str, Any]], description: str) -> None:
    """A story and the table it was told from."""
    create_markdown_artifact(story, key=f"{key}-summary", description="What this run found")
    create_table_artifact(rows, key=f"{key}-table", description=description)


def publish_picture(name: str, png: bytes) -> None:
    """A flagged frame, its nearest reference and their difference."""
    description = f"The oddest frame of this run, {artifacts.escape(name)}, its nearest reference and their difference"
    create_image_artifact(artifacts.embed_png(png), key="oddest-frame", description=description)


def publish_curves(curves: Sequence[Curve]) -> None:
    """Recall over brightness as a picture."""
    if curves:
        drawn = artifacts.embed_png(draw_curves(curves))
        create_image_artifact(drawn, key="sensitivity-curves", description="Share found of what was injected")


def conclude(message: str, checks: Sequence[Line] | None = None) -> State[None]:
    """The final state: a difference between the stores is a failure whatever else went well."""
    if checks is not None and artifacts.count_failed(checks):
        return Failed(message=f"{message} {artifacts.summarise_checks(checks)}".strip())
    return Completed(message=message)
