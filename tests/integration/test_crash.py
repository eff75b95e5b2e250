"""Killed at any moment and run again: no frame lost, none doubled, and `verify` agrees."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from pipeline.run import ingest as ingest_module
from pipeline.run.lake import KillSwitch
from pipeline.run.reference import list_references
from tests import children
from tests.lake_tools import (
    InlinePool,
    add_references,
    command,
    die_at,
    ingest,
    lake_at,
    make_environment,
    oddframe,
    plan_field,
    read_lines,
    rows,
    snapshots,
    write_odd,
    write_plans,
    wrong,
)

KILLS = 20
SPOOL = 60
REFERENCES = 6
STEPS = [
    *("number", "index", "judge", "commit frames", "commit quarantine", "commit detections", "commit verdicts"),
    *("commit deliveries", "acknowledge"),
]
REFERENCE_STEPS = [
    *("number", "index", "references", "commit frames", "commit quarantine", "commit verdicts"),
    *("commit reference_members", "commit deliveries", "acknowledge"),
]


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> tuple[list[Path], list[Path]]:
    """References, and a spool with normal frames, an odd one and one that is cut short."""
    directory = tmp_path_factory.mktemp("night")
    plans = plan_field(REFERENCES, SPOOL - 1, seed=5)
    references = write_plans(plans[:REFERENCES], directory / "references")
    spool = write_plans(plans[REFERENCES:-1], directory / "spool")
    spool.append(write_odd(plans[-1], directory / "spool" / "odd.fits"))
    broken = directory / "spool" / "broken.fits"
    broken.write_bytes(spool[0].read_bytes()[:9000])
    return references, [*spool, broken]


@pytest.fixture(scope="module")
def begun(tmp_path_factory, night) -> Path:
    """A home with the references in it."""
    home = tmp_path_factory.mktemp("begun") / "home"
    with lake_at(home) as lake:
        add_references(lake, night[0])
    return home


@pytest.fixture
def home(begun, tmp_path) -> Path:
    """The home with references, put back as it was afterwards: tables hold absolute places."""
    shutil.copytree(begun, tmp_path / "kept")
    yield begun
    shutil.rmtree(begun)
    shutil.copytree(tmp_path / "kept", begun)


@pytest.fixture
def inline(monkeypatch) -> None:
    """Decode in this process."""
    monkeypatch.setattr(ingest_module, "WorkerPool", InlinePool)


def ingest_and_die(home: Path, paths: list[Path], step: str, times: int) -> None:
    ingest_module.WorkerPool = InlinePool
    with lake_at(home) as lake:
        ingest(lake, paths, KillSwitch(die_at(step, times)), batch=4)


def refer_and_die(home: Path, paths: list[Path], step: str, times: int) -> None:
    ingest_module.WorkerPool = InlinePool
    with lake_at(home) as lake:
        add_references(lake, paths, KillSwitch(die_at(step, times)), batch=4)


def check_ingested(lake, paths: list[Path], references: int) -> None:
    """Each file is one frame or one quarantined content, delivered once and judged once."""
    assert wrong(lake) == {}
    assert len(rows(lake, "frames")) == references + len(paths) - 1
    assert Counter(r["outcome"] for r in rows(lake, "deliveries", purpose="ingest")) == {
        "new": len(paths) - 1,
        "quarantined": 1,
    }
    assert len(rows(lake, "quarantine")) == 1
    judged = Counter(r["name"] for r in rows(lake, "verdicts"))
    assert judged == dict.fromkeys([path.name for path in paths], 1)
    (odd,) = rows(lake, "verdicts", name="odd.fits")
    detections = rows(lake, "detections")
    assert odd["status"] == "anomaly"
    assert {d["verdict_id"] for d in detections} == {odd["verdict_id"]}
    assert len({(d["x"], d["y"]) for d in detections}) == len(detections)


# The second batch holds the odd frame and the broken one; the first dies while the second is being decoded.
@pytest.mark.parametrize(("step", "times"), [*((step, 1) for step in STEPS), ("commit verdicts", 2), ("index", 2)])
def test_an_ingest_that_dies_at_any_step_is_finished_by_the_next(home, night, step, times, inline):
    paths = [*night[1][:3], *night[1][-2:], night[1][3]]
    assert children.run(ingest_and_die, home, paths, step, times) == -signal.SIGKILL
    with lake_at(home) as lake:
        reports = ingest(lake, paths)
        assert [r["name"] for r in reports] == [p.name for p in paths]
        check_ingested(lake, paths, REFERENCES)
        before = snapshots(lake)
        assert ingest(lake, paths) == reports
        assert snapshots(lake) == before


def test_dying_twice_at_different_steps_changes_nothing(home, night, inline):
    paths = [*night[1][:3], *night[1][-2:]]
    for step in ("commit deliveries", "commit verdicts", "commit frames", "number"):
        assert children.run(ingest_and_die, home, paths, step, 1) in (-signal.SIGKILL, 0)
    with lake_at(home) as lake:
        ingest(lake, paths)
        check_ingested(lake, paths, REFERENCES)


@pytest.mark.parametrize("step", REFERENCE_STEPS)
def test_a_reference_add_that_dies_at_any_step_is_finished_by_the_next(tmp_path, night, step, inline):
    home = tmp_path / "home"
    paths = [*night[0][:3], night[1][-1], night[0][3]]
    assert children.run(refer_and_die, home, paths, step, 1) == -signal.SIGKILL
    with lake_at(home) as lake:
        add_references(lake, paths)
        assert wrong(lake) == {}
        assert sorted(line["name"] for line in list_references(lake)) == sorted(p.name for p in night[0][:4])
        assert len(rows(lake, "reference_members")) == len(rows(lake, "frames")) == 4
        assert len(rows(lake, "deliveries")) == 5
        assert len(rows(lake, "quarantine")) == len(rows(lake, "verdicts")) == 1


@pytest.mark.parametrize("step", ["references", "commit frames", "commit reference_members", "commit deliveries"])
def test_what_a_dead_reference_add_left_is_finished_by_an_ingest_and_verified(tmp_path, night, step, inline):
    home = tmp_path / "home"
    assert children.run(refer_and_die, home, night[0][:4], step, 1) == -signal.SIGKILL
    with lake_at(home) as lake:
        ingest(lake, [night[1][0]])
        added = {line["name"] for line in list_references(lake)}
        assert added == ({p.name for p in night[0][:4]} if step == "commit deliveries" else set())
        add_references(lake, night[0][:4])
        assert wrong(lake) == {}
        assert len(list_references(lake)) == 4


def wait_for_end(group: int) -> None:
    """Nothing of a killed command may live on: its workers end when it is gone."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        alive = [p.pid for p in psutil.process_iter() if _group_of(p.pid) == group and not _is_zombie(p)]
        if not alive:
            return
        time.sleep(0.02)
    raise AssertionError(f"processes of a killed command live on: {alive}")


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def run_and_kill(home: Path, spool: Path, chance: random.Random) -> bool:
    """Run `oddframe ingest` and kill it some time after its start or a line of its output; True if it ended first."""
    process = subprocess.Popen(
        command("ingest", spool, "--json"), env=make_environment(home, ODDFRAME_BATCH__BULK_FRAMES="3"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    # Most kills fall where work is done; the others while the stores are being opened.
    lines = chance.choice([0, 1, 1, 2, 4])
    delay = chance.uniform(0.0, 5.0) if lines == 0 else chance.uniform(0.0, 0.6)
    for _ in range(lines):
        if not process.stdout.readline():
            break
    reader = threading.Thread(target=process.stdout.read, daemon=True)
    reader.start()
    ended = True
    try:
        process.wait(delay)
    except subprocess.TimeoutExpired:
        ended = False
        process.kill()
    process.wait()
    reader.join()
    errors = process.stderr.read()
    wait_for_end(process.pid)
    assert process.returncode in (0, -signal.SIGKILL), errors
    assert "Traceback" not in errors
    return ended


@pytest.mark.timeout(900)
def test_twenty_kills_at_random_moments_lose_and_double_nothing(home, night):
    chance = random.Random(20260312)
    spool = night[1][0].parent
    kills, ended = 0, False
    while kills < KILLS:
        ended = run_and_kill(home, spool, chance)
        kills += not ended
        if ended and kills < KILLS:
            _check_whole(home, night[1])
            shutil.rmtree(home)
            with lake_at(home) as lake:
                add_references(lake, night[0])
    answer = oddframe("ingest", spool, "--json", home=home)
    assert answer.returncode == 0, answer.stderr
    reports = read_lines(answer.stdout)
    assert [r["name"] for r in reports] == sorted(path.name for path in night[1])
    _check_whole(home, night[1])
    verified = oddframe("verify", "--json", home=home)
    assert verified.returncode == 0, verified.stdout


def _check_whole(home: Path, paths: list[Path]) -> None:
    with lake_at(home) as lake:
        check_ingested(lake, paths, REFERENCES)
