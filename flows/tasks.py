"""The tasks flows are made of: one call of a service each, tried again where the adapter called the fault transient."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import date
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from prefect import State, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.tasks import Task, exponential_backoff

from pipeline.clock import now_utc
from pipeline.errors import TransientError
from pipeline.judge.promotion import PromotionRule
from pipeline.parts import open_originals
from pipeline.run.archive import Progress, verify_checksums
from pipeline.run.batch import IngestRequest
from pipeline.run.lake import Lake
from pipeline.run.learn import learn_models
from pipeline.run.promote import promote_frames
from pipeline.run.reference import audit_references
from pipeline.run.repair import repair_lake
from pipeline.run.report import Report
from pipeline.run.sensitivity import Curve, Ladder, measure_sensitivity
from pipeline.run.sweep import Sweep, draw_frame
from pipeline.run.verify import Check, verify_lake
from pipeline.settings import Settings, load_settings
from pipeline.wiring import archive_home, maintain_home

Line = dict[str, Any]

# As long as the longest of them may take: a night's archiving.
_PATIENCE_S = 3_600.0


def spare_workers() -> None:
    """Keep the processes that decode from importing Prefect.

    A worker begins by importing the main module of the process that started it, unless that is a package's
    `__main__`. In a flow run it is Prefect's engine, which takes seconds and megabytes and is of no use to a decoder.
    """
    main = sys.modules["__main__"]
    if main.__spec__ is not None and main.__spec__.name.startswith("prefect."):
        main.__spec__ = ModuleSpec("prefect.__main__", None)


def load_patient_settings() -> Settings:
    """The settings, and patience with whoever has the home open: a run that has to wait has not failed."""
    settings = load_settings()
    return settings.model_copy(update={"lock_seconds": max(settings.lock_seconds, _PATIENCE_S)})


def is_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether a failed task may succeed when it is tried again."""
    del task, run
    error = state.result(raise_on_failure=False)
    return isinstance(error, TransientError)


def _again(name: str) -> dict[str, Any]:
    # A lake is open files and sockets: it cannot be hashed for a cache and goes to no other process.
    return {
        "task_run_name": name,
        "retries": 3,
        "retry_delay_seconds": exponential_backoff(2),
        "retry_jitter_factor": 0.5,
        "retry_condition_fn": is_transient,
        "cache_policy": NO_CACHE,
        "persist_result": False,
    }


@task(**_again("batch {number} of {total}: {frames} frames"))
def ingest_batch(sweep: Sweep, paths: Sequence[Path], number: int, total: int, frames: int) -> list[Report]:
    """Bring one batch into the lake."""
    del number, total, frames
    spare_workers()
    return sweep.ingest(paths)


@task(**_again("read topic {topic}"))
def read_topic(settings: Settings, topic: str, request: IngestRequest, tell: Callable[[int], None]) -> list[Report]:
    """Bring in what a topic holds that the lake does not; `tell` is told how many frames are done."""
    # The client of Kafka loads slowly, and most runs do without.
    from pipeline.streams import open_consumer  # noqa: PLC0415

    spare_workers()
    reports: list[Report] = []
    with open_consumer(settings, topic, request, once=True) as consumer:
        for report in consumer.consume(lambda: False):
            reports.append(report)
            tell(len(reports))
    return reports


@task(**_again("verify every store"))
def check_lake(lake: Lake) -> list[Check]:
    """Compare source, tables, vectors and originals."""
    return verify_lake(lake)


@task(**_again("repair what can be mended"))
def mend_lake(lake: Lake, checks: Sequence[Check]) -> list[Check]:
    """Repair, then compare again."""
    return repair_lake(lake, checks)


@task(**_again("learn the models of fields whose references changed"))
def learn_fields(lake: Lake, tell: Callable[[str], None], *, anew: bool = False) -> list[Line]:
    """One model a field; a field whose references are the same keeps its own."""
    return [lesson.to_json() | {"said": lesson.tell()} for lesson in learn_models(lake, tell, anew=anew)]


@task(**_again("inject light and look for it"))
def try_injected(lake: Lake, night: date | None, trials: int, tell: Callable[[str], None]) -> list[Curve]:
    """Recall of each kind in each field of a night; the newest night where none is named."""
    return list(measure_sensitivity(lake, night, Ladder(trials=trials), tell))


@task(**_again("make normal frames references by rule"))
def promote_normal(lake: Lake, rule: PromotionRule, *, dry_run: bool) -> list[Line]:
    """Those that the rule names; may be stopped anywhere and run again."""
    return promote_frames(lake, rule, dry_run=dry_run)


@task(**_again("compare every reference with the others"))
def audit_lake(lake: Lake) -> list[Line]:
    """Leave-one-out, worst first."""
    return audit_references(lake)


@task(**_again("archive old originals"))
def move_originals(settings: Settings, tell: Progress, *, dry_run: bool) -> Line:
    """Copy, prove, delete; may be stopped anywhere and run again."""
    return archive_home(settings, dry_run=dry_run, on_progress=tell).to_json()


@task(**_again("compact, expire, remove orphans"))
def tidy_home(settings: Settings, tell: Progress, *, dry_run: bool) -> list[Line]:
    """Housekeeping of tables and vectors, in its order; may be stopped anywhere and run again."""
    return [step.to_json() for step in maintain_home(settings, dry_run=dry_run, on_progress=tell)]


@task(**_again("compare {sample} checksums in the archive"))
def check_archive(settings: Settings, tell: Progress, sample: int) -> Line:
    """Read archived originals again."""
    archive = open_originals(settings).archive
    return verify_checksums(archive, sample=sample, now=now_utc(), on_progress=tell).to_json()


@task(**_again("draw {name}"))
def draw_oddest(lake: Lake, frame_id: str, name: str) -> bytes:
    """The picture that explains a flagged frame."""
    del name
    return draw_frame(lake, frame_id)
