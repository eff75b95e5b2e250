"""Small nights and lakes for tests: simulated frames, edited headers, and the services that work on them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from pipeline.cli.app import run
from pipeline.ports import OriginalStore, RawFrame
from pipeline.run.batch import IngestRequest, Purpose
from pipeline.run.ingest import Ingestor
from pipeline.run.lake import KillSwitch, Lake
from pipeline.run.land import land_files
from pipeline.run.prepare import prepare_frame
from pipeline.run.prepared import PreparePlan
from pipeline.run.report import Report
from pipeline.run.verify import Check, verify_lake
from pipeline.run.workers import PendingFrame
from pipeline.settings import Settings
from pipeline.simulate import plan_night, render_exposure, to_fits_bytes
from pipeline.simulate.night import ExposurePlan
from pipeline.wiring import open_lake

SIDE = 96


def make_settings(home: Path, **sections: Any) -> Settings:
    """Settings of a home, with sections given as dictionaries; two workers at most, no models unless asked for."""
    sections["decode"] = {"workers": 2, "seconds": 20, "memory_mb": 2048} | sections.get("decode", {})
    sections["embed"] = {"residual": False} | sections.get("embed", {})
    return Settings(**sections).model_copy(update={"home": home.absolute()})


@contextmanager
def lake_at(home: Path, **sections: Any) -> Iterator[Lake]:
    """The lake of a home, open."""
    with open_lake(make_settings(home, **sections)) as lake:
        yield lake


def ingest(
    lake: Lake, paths: Sequence[Path], switch: KillSwitch | None = None, batch: int | None = None, **request: Any
) -> list[Report]:
    """Bring files in; the reports, in order."""
    with Ingestor(lake, IngestRequest(**request), switch) as ingestor:
        return list(ingestor.ingest(paths, batch))


def add_references(lake: Lake, paths: Sequence[Path], switch: KillSwitch | None = None, **request: Any) -> list[Report]:
    """Make files references; the reports, in order."""
    return ingest(lake, paths, switch, purpose=Purpose.REFERENCE, by="test", why="a test", **request)


def redrive(lake: Lake) -> list[Report]:
    """Try everything in quarantine again."""
    with Ingestor(lake, IngestRequest()) as ingestor:
        return list(ingestor.redrive())


def wrong(lake: Lake) -> dict[str, Check]:
    """The checks of `verify` that found differences, by name."""
    return {check.name: check for check in verify_lake(lake) if not check.agrees}


def snapshots(lake: Lake) -> dict[str, int | None]:
    """The newest snapshot of every table: equal before and after means that nothing was written."""
    tables = ("frames", "deliveries", "quarantine", "verdicts", "detections", "reference_members")
    return {table: lake.tables.snapshot_id(table) for table in tables}


def rows(lake: Lake, table: str, **where: Any) -> list[dict[str, Any]]:
    """Rows of a table, filtered by equal values."""
    return lake.tables.scan(table, where={key: [value] for key, value in where.items()}).to_pylist()


def plan_field(references: int, frames: int, seed: int = 11, **options: Any) -> list[ExposurePlan]:
    """A quiet field: references first, then frames that are all normal."""
    settings = {"preset": "quiet", "fields": 1, "anomaly_share": 0.0, "shape": (SIDE, SIDE)} | options
    return plan_night(seed, references=references, frames=frames, **settings)


def write_plans(plans: Sequence[ExposurePlan], directory: Path) -> list[Path]:
    """Render and write frames, in order."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for plan in plans:
        path = directory / plan.name
        path.write_bytes(to_fits_bytes(*render_exposure(plan)))
        paths.append(path)
    return paths


def write_odd(plan: ExposurePlan, path: Path) -> Path:
    """The frame of a plan with a glaring blob that no other frame has."""
    pixels, header = render_exposure(replace(plan, anomaly=None))
    pixels = pixels.copy()
    pixels[30:42, 50:62] = 60000
    path.write_bytes(to_fits_bytes(pixels, header))
    return path


def edit(source: Path, target: Path, **cards: Any) -> Path:
    """Copy a frame with other header values; None removes a card, a double underscore stands for a hyphen."""
    with fits.open(source) as units:
        header, pixels = units[0].header.copy(), np.array(units[0].data)
    for keyword, value in cards.items():
        name = keyword.replace("__", "-")
        if value is None:
            header.remove(name, ignore_missing=True)
        else:
            header[name] = value
    buffer = io.BytesIO()
    fits.PrimaryHDU(data=pixels, header=header).writeto(buffer)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(buffer.getvalue())
    return target


def die_at(step: str, times: int) -> Callable[[str], None]:
    """For a `KillSwitch`: SIGKILL to this process when a step is reached for so many times."""
    left = [times]

    def reach(reached: str) -> None:
        if reached == step:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return reach


def oddframe(*arguments: object, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the real command; nothing of this process's settings reaches it."""
    return subprocess.run(
        command(*arguments), env=make_environment(home, **environment), capture_output=True, text=True, check=False,
        timeout=240,
    )  # fmt: skip


def oddframe_here(*arguments: object, home: Path) -> subprocess.CompletedProcess[str]:
    """Run the command in this process: what it prints and its exit code, without the seconds a start takes."""
    out, errors = io.StringIO(), io.StringIO()
    texts = [*map(str, arguments), "--home", str(home)]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        code = run(texts)
    return subprocess.CompletedProcess(texts, code, out.getvalue(), errors.getvalue())


def command(*arguments: object) -> list[str]:
    """The command line of the `oddframe` that belongs to this Python."""
    return [str(Path(sys.executable).with_name("oddframe")), *map(str, arguments)]


def make_environment(home: Path, **more: str) -> dict[str, str]:
    """The environment without any ODDFRAME setting but these; no models are learnt unless it is asked for."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ODDFRAME_")}
    return kept | {"ODDFRAME_HOME": str(home), "ODDFRAME_EMBED__RESIDUAL": "false"} | more


def read_lines(text: str) -> list[dict[str, Any]]:
    """JSON documents, one a line; anything else fails."""
    return [json.loads(line) for line in text.splitlines()]


class InlinePool:
    """Decodes in this process: for tests of the order of commits, which need no workers and start many processes."""

    def __init__(self, plan: PreparePlan, workers: int) -> None:  # noqa: ARG002 - as the real one
        self._plan = plan

    def __exit__(self, *_: object) -> None:
        """There is nothing to stop."""

    def land(self, paths: list[Path], originals: OriginalStore, max_bytes: int) -> Callable[[], list]:
        """Read and keep when it is waited for."""
        return lambda: land_files([path.absolute() for path in paths], originals, max_bytes)

    def submit(self, raw: RawFrame, place: Path) -> PendingFrame:
        """Decode when it is waited for."""
        return PendingFrame(raw, lambda: prepare_frame(place, raw.name, raw.frame_id, self._plan))
