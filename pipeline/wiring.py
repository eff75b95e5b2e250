"""Settings in, a lake out: stores opened together, locked where only one process may use them, and closed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from filelock import FileLock, Timeout

from pipeline.clock import now_utc
from pipeline.embed.registry import known_embeddings
from pipeline.embed.residual_spec import ResidualSpec
from pipeline.errors import LockedError, StoreError, TransientError, UsageError
from pipeline.frame.types import DecodeLimits, SkyRules
from pipeline.judge.eligibility import load_rules
from pipeline.judge.prefilter import SearchRules
from pipeline.judge.promotion import PromotionRule
from pipeline.parts import choose, open_log, open_models, open_originals, open_sql, open_tables, open_vectors
from pipeline.ports import FrameSource, VectorStore
from pipeline.run.lake import JudgeRules, Lake
from pipeline.run.memory import keep_buffers, keep_modules
from pipeline.run.prepared import PreparePlan
from pipeline.settings import Settings
from pipeline.source.spool import SpoolSource

_LOG = logging.getLogger(__name__)

if TYPE_CHECKING:
    from pipeline.run.archive import ArchivedOriginals, Progress
    from pipeline.run.maintain import MaintainStep
    from pipeline.store.maintenance_iceberg import IcebergMaintenance
    from pipeline.store.tables_iceberg import IcebergTables


@contextmanager
def open_lake(settings: Settings) -> Iterator[Lake]:
    """Everything, for reading and writing; one process at a time.

    Raises:
        LockedError: another process has the home open for writing.
        TransientError: a store does not answer.
    """
    home = settings.home
    with (
        lock_home(home, settings.lock_seconds),
        closing(open_tables(settings)) as tables,
        closing(open_vectors(settings)) as vectors,
        closing(SpoolSource(home / "spool.db")) as source,
    ):
        keep_buffers()
        keep_modules()
        yield build_lake(settings, tables, vectors, source)


@contextmanager
def read_lake(settings: Settings) -> Iterator[Lake]:
    """The tables and originals, without the lock: to be read beside a process that writes.

    Vectors and journal, which one process at a time may open, are not there.
    """
    with closing(open_tables(settings)) as tables:
        yield build_lake(settings, tables, cast("VectorStore", None), cast("FrameSource", None))


def build_lake(settings: Settings, tables: IcebergTables, vectors: VectorStore, source: FrameSource) -> Lake:
    """Stores that are open, and what the settings say of how to work with them."""
    return Lake(
        tables=tables,
        vectors=vectors,
        originals=open_originals(settings),
        models=open_models(settings),
        source=source,
        open_log=partial(open_log, settings),
        embeddings=known_embeddings(settings.embed.pixels_shape),
        residual=ResidualSpec() if settings.embed.residual else None,
        plan=build_plan(settings),
        rules=build_rules(settings),
        shared=choose(settings).is_shared,
        workers=settings.decode.workers,
        batch=settings.batch.bulk_frames,
        clock=now_utc,
    )


def find_home(settings: Settings) -> Settings:
    """The settings as given, of a home that is there: what only reads must not make one.

    Raises:
        UsageError: there is none.
    """
    if _is_missing(settings):
        raise UsageError(f"{_tell_missing(settings.home)}; bring frames in first (`oddframe ingest`), or see --home")
    return settings


def _is_missing(settings: Settings) -> bool:
    home = settings.home
    # What stands in the way of a home is told by those who open it; a shared catalogue is not in it.
    return (
        choose(settings).tables == "sqlite"
        and not (home / "catalog.db").exists()
        and (home.is_dir() or not home.exists())
    )


def _tell_missing(home: Path) -> str:
    return f"no oddframe home at {home}"


@contextmanager
def lock_home(home: Path, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the home against other writers; the lock goes with the process, also when it is killed.

    Args:
        home: What is held.
        wait_s: Longest wait for another process to leave it, seconds.

    Raises:
        LockedError: another process has it open.
        TransientError: the directory cannot be made.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TransientError(f"cannot make the home directory {home}: {error.strerror}; set ODDFRAME_HOME") from error
    lock = FileLock(home / "lock")
    try:
        _acquire(lock, home, wait_s)
    except Timeout as error:
        waited = f" after {wait_s:g} s" if wait_s else ""
        raise LockedError(f"{home} is in use by another oddframe process{waited}; wait for it or stop it") from error
    try:
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, home: Path, wait_s: float) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait_s:
            raise
        _LOG.warning("waiting for %s, which another oddframe process has open", home)
        lock.acquire(timeout=wait_s, poll_interval=0.2)


def lock_stores(settings: Settings) -> AbstractContextManager[None]:
    """Hold the home where its stores have one writer; where they are shared nobody needs to be kept out."""
    return nullcontext() if choose(settings).is_shared else lock_home(settings.home, settings.lock_seconds)


def archive_home(
    settings: Settings, *, dry_run: bool = False, on_progress: Progress | None = None
) -> ArchivedOriginals:
    """Move old originals of a home to the archive, alone with it.

    Raises:
        LockedError: another process has the home open for writing.
        TransientError: a store or disk did not answer.
    """
    from pipeline.run.archive import archive_originals  # noqa: PLC0415 - as for the tables

    before = now_utc() - timedelta(days=settings.archive.after_days)
    with lock_home(settings.home, settings.lock_seconds), closing(open_tables(settings)) as tables:
        return archive_originals(tables, open_originals(settings), before, dry_run=dry_run, on_progress=on_progress)


def append_evaluations(settings: Settings, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add measurements to the table `evaluations`.

    Raises:
        LockedError: another process has the home open for writing.
        TransientError: a store or disk did not answer.
    """
    with lock_stores(settings), closing(open_tables(settings)) as tables:
        tables.append("evaluations", rows)


def maintain_home(
    settings: Settings, *, dry_run: bool = False, on_progress: Progress | None = None
) -> Iterator[MaintainStep]:
    """Tidy tables and vectors: beside other processes where the stores are shared, alone with the home where not.

    Raises:
        LockedError: another process has the embedded stores of the home open.
        StoreError: a table does not hold what its metadata says.
        TransientError: a store or disk did not answer.
    """
    from pipeline.run.maintain import MaintainPlan, run_maintain  # noqa: PLC0415 - as for the tables

    chosen = settings.maintain
    plan = MaintainPlan(
        small_bytes=chosen.small_file_mb * 2**20,
        most_small=chosen.small_files,
        snapshots_days=chosen.keep_snapshots_days,
        most_snapshots=chosen.keep_snapshots,
        orphan_hours=chosen.orphan_age_hours,
        vector_seconds=chosen.vector_seconds,
    )
    with open_maintenance(settings) as tables:
        yield from run_maintain(
            tables, lambda: open_vectors(settings), plan, now=now_utc(), dry_run=dry_run, on_progress=on_progress
        )


@contextmanager
def open_maintenance(settings: Settings) -> Iterator[IcebergMaintenance]:
    """The housekeeping of the tables, as `maintain_home` has it."""
    from pipeline.store.maintenance_iceberg import IcebergMaintenance  # noqa: PLC0415 - as for the tables

    with lock_stores(settings), closing(open_tables(settings)) as tables:
        yield IcebergMaintenance(tables)


def build_plan(settings: Settings) -> PreparePlan:
    """What workers are told."""
    decode = settings.decode
    return PreparePlan(
        limits=DecodeLimits(
            max_bytes=decode.max_bytes,
            max_unpacked_bytes=decode.max_unpacked_bytes,
            max_pixels=decode.max_pixels,
            seconds=decode.seconds,
            memory_bytes=decode.memory_mb * 2**20,
        ),
        sky=SkyRules(order=settings.sky.zone_order, default_radius=settings.sky.pointing_radius_deg),
        embeddings=known_embeddings(settings.embed.pixels_shape),
        exposure_factor=settings.search.exposure_factor,
    )


def build_rules(settings: Settings) -> JudgeRules:
    """How frames are judged."""
    search = settings.search
    return JudgeRules(
        budget=search.budget,
        neighbours=search.neighbours,
        min_references=search.min_references,
        search=SearchRules(search.exposure_factor, search.obs_after, search.obs_before),
        eligibility=load_rules(search.eligibility_file),
        reference_set=search.reference_set,
        leave_out_bad=settings.embed.leave_out_bad,
    )


def build_promotion(
    settings: Settings, *, days: float | None = None, most: int | None = None, p: float | None = None
) -> PromotionRule:
    """What it takes to become a reference by rule: what is given, else what the settings say."""
    chosen = settings.promote
    return PromotionRule(
        days=chosen.days if days is None else days,
        most=chosen.most if most is None else most,
        least_p=chosen.p if p is None else p,
    )


_ADVICE = {
    "tables": "look at the message; `oddframe verify --repair` mends rows, a backup the catalogue",
    "vectors": "stop the other process, or remove vectors.db and run `oddframe verify --repair`",
    "sql": "install oddframe again: its sql directory is incomplete",
}


def list_probes(settings: Settings) -> list[tuple[str, Callable[[], str], str]]:
    """What `doctor` asks of each store of the profile: name, probe, advice."""
    if _is_missing(settings):
        # Nothing is wrong with a machine that has brought no frames in yet.
        return [("home", lambda: f"{_tell_missing(settings.home)} yet; `oddframe ingest` makes it", "")]

    def probe_tables() -> str:
        tables = open_tables(settings)
        counts = {name: tables.scan(name, ["frame_id"]).num_rows for name in ("frames", "verdicts", "deliveries")}
        problems = tables.compare_schema()
        if problems:
            raise StoreError("; ".join(problems))
        return ", ".join(f"{count} {name}" for name, count in counts.items())

    def probe_vectors() -> str:
        shared = choose(settings).vectors == "server"
        with nullcontext() if shared else lock_home(settings.home), closing(open_vectors(settings)) as vectors:
            return ", ".join(vectors.specs()) or "empty"

    def probe_originals() -> str:
        return f"{sum(1 for _ in open_originals(settings).ids())} kept"

    def probe_sql() -> str:
        engine, catalog = open_sql(settings)
        engine.query("select count(*) from frames")
        return f"{len(catalog.queries)} queries, {len(catalog.views)} views"

    def probe_kafka() -> str:
        with open_log(settings, settings.kafka.topic) as log:
            if log is None:
                return f"it answers; there is no topic {settings.kafka.topic} yet"
            with closing(open_tables(settings)) as tables:
                coming = sum(standing.lag for standing in log.list_standings(tables.positions("deliveries")))
            return f"topic {settings.kafka.topic}: {coming} messages to come"

    choice, away = choose(settings), "is it up (`oddframe stack status`), and is {} right?"
    probes = [
        ("tables", probe_tables, _ADVICE["tables"] if choice.tables == "sqlite" else away.format("catalog.uri")),
        ("vectors", probe_vectors, _ADVICE["vectors"] if choice.vectors == "lite" else away.format("milvus.uri")),
        ("originals", probe_originals, "check the permissions of the home and the archive"),
        ("sql", probe_sql, _ADVICE["sql"] if choice.sql == "duckdb" else away.format("presto.uri")),
    ]
    return [*probes, ("kafka", probe_kafka, away.format("kafka.bootstrap"))] if choice.frames == "kafka" else probes
