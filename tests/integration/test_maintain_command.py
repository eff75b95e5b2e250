"""`oddframe maintain` on both profiles: a line a step, and a pinned snapshot that either engine still travels to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.clock import now_utc
from pipeline.parts import open_tables
from pipeline.settings import load_settings
from pipeline.store.maintenance_iceberg import IcebergMaintenance
from pipeline.store.schema import TABLES
from pipeline.store.tables_iceberg import IcebergTables
from pipeline.wiring import lock_home
from tests.contract.rest_catalog import lend_namespace
from tests.lake_tools import oddframe_here, read_lines
from tests.stack import require_stack
from tests.table_tools import drop_database, fill, read_rows

COMMITS = 6
Command = Callable[..., tuple[int, list[dict[str, Any]], str]]


@pytest.fixture(params=["embedded", "full"])
def home(request, tmp_path: Path, monkeypatch) -> Iterator[Path]:
    with ExitStack() as held:
        if request.param == "full":
            stack = require_stack()
            namespace = held.enter_context(lend_namespace(stack))
            held.callback(drop_database, f"http://127.0.0.1:{stack.port('milvus')}", namespace)
            monkeypatch.setenv("ODDFRAME_PROFILE", "full")
            monkeypatch.setenv("ODDFRAME_STORES__NAMESPACE", namespace)
            monkeypatch.setenv("ODDFRAME_STACK__FIRST_PORT", str(stack.first_port))
            monkeypatch.setenv("ODDFRAME_STACK__DATA", str(stack.data))
        monkeypatch.setenv("ODDFRAME_MAINTAIN__SMALL_FILES", "2")
        yield tmp_path / "home"


@pytest.fixture
def tables(home) -> Iterator[IcebergTables]:
    opened = open_tables(load_settings(home))
    fill(opened, "frames", COMMITS)
    yield opened
    opened.close()


@pytest.fixture
def command(home, tables) -> Command:
    def run(*arguments: object) -> tuple[int, list[dict[str, Any]], str]:
        done = oddframe_here(*arguments, "--json", home=home)
        return done.returncode, read_lines(done.stdout), done.stderr

    return run


def test_every_step_and_table_has_a_line_and_a_dry_run_changes_nothing(command, tables):
    before = read_rows(tables)
    planned = command("maintain", "--dry-run")
    assert len(tables.raw("frames").snapshots()) == COMMITS
    done = command("maintain")
    assert (planned[0], done[0], done[2]) == (0, 0, "")
    for code_lines, dry in ((planned, True), (done, False)):
        expected = [(step, table.name) for step in ("compact", "expire", "orphans") for table in TABLES]
        assert [(line["step"], line["table"]) for line in code_lines[1]] == expected
        assert {line["dry_run"] for line in code_lines[1]} == {dry}
    (merged,) = [line for line in done[1] if (line["step"], line["table"]) == ("compact", "frames")]
    assert (merged["files_before"], merged["files_after"], merged["left"]) == (COMMITS, 2, 0)
    assert planned[1][0]["files_after"] == 2
    assert read_rows(tables) == before


def test_a_pinned_snapshot_outlives_expiry_and_the_engine_travels_to_it(command, tables):
    ids = [snapshot.snapshot_id for snapshot in tables.raw("frames").snapshots()]
    code, lines, _ = command("maintain", "--pin", f"frames:{ids[2]}", "--as", "paper-1")
    assert (code, lines) == (0, [{"step": "pin", "table": "frames", "snapshot": ids[2], "pin": "paper-1"}])
    tomorrow, maintenance = now_utc() + timedelta(days=1), IcebergMaintenance(tables)
    maintenance.compact("frames", most_small=1)
    maintenance.expire("frames", tomorrow)
    assert maintenance.remove_orphans("frames", tomorrow).files
    count = "select count(*) as n from frames"
    assert command("sql", count, "--as-of", ids[2])[:2] == (0, [{"n": 3}])
    assert command("sql", count)[:2] == (0, [{"n": COMMITS}])
    assert command("sql", count, "--as-of", ids[3])[0] == 2
    assert command("maintain", "--unpin", "paper-1")[1] == [{**lines[0], "step": "unpin"}]
    code, _, said = command("maintain", "--unpin", "paper-1")
    assert (code, said) == (2, "oddframe: no snapshot is pinned as 'paper-1'; pinned are: none\n")


WRONG = [
    ["--pin", "frames:1"], ["--as", "x"], ["--pin", "frames", "--as", "x"], ["--pin", "frames:x", "--as", "x"],
    ["--pin", "frames:1", "--as", "main"], ["--pin", "frames:1", "--as", "a b"], ["--pin", "f:1", "--as", "x"],
    ["--pin", "frames:1", "--as", "x", "--dry-run"], ["--unpin", "x", "--dry-run"], ["--unpin", "main"],
    ["--pin", "frames:1", "--as", "x", "--unpin", "x"],
]  # fmt: skip


def test_wrong_use_is_one_line_and_changes_nothing(command, tables):
    before = tables.raw("frames").metadata_location
    for arguments in WRONG:
        code, lines, said = command("maintain", *arguments)
        assert (code, lines, said.count("\n")) == (2, [], 1), arguments
    assert tables.raw("frames").metadata_location == before


def test_only_embedded_stores_are_had_alone(command, home, request):
    with lock_home(home):
        code, _, said = command("maintain")
    if request.node.callspec.params["home"] == "full":
        assert code == 0
    else:
        assert (code, "in use by another oddframe process" in said) == (3, True)
