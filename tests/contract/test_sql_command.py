"""`oddframe sql` as a process, on both engines: rows as they come, interrupts, readers that go away, tables of then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from time import monotonic, sleep

import pytest

from pipeline.parts import open_sql, open_tables
from pipeline.settings import Settings
from pipeline.store.sql_presto_client import PrestoServer
from tests.contract.interrupts import interrupt_after
from tests.contract.presto_says import states, wait_for_start, why_failed
from tests.contract.rest_catalog import lend_namespace
from tests.contract.sql_world import ENGINES, ROWS, fill
from tests.lake_tools import command, make_environment, oddframe_here, read_lines
from tests.stack import require_stack

MANY = "FROM unnest(sequence(1, 9999)) AS a (x) CROSS JOIN unnest(sequence(1, 9999)) AS b (y)"
# So long that it never ends by itself here, and answers nothing until then.
SLOW = f"SELECT count(*) {MANY} CROSS JOIN unnest(sequence(1, 9999)) AS c (z) WHERE x % (y + z) = 3"


@dataclass(frozen=True)
class Place:
    """Where the command looks: a home, or the tables of the stack."""

    home: Path
    variables: dict[str, str]
    settings: Settings
    server: PrestoServer | None
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command("sql", *arguments), env=make_environment(self.home, **self.variables), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    def stop(self) -> None:
        """What a failed test left behind."""
        for process in self.started:
            process.kill()
            process.wait()

    def ask(self, *arguments: str) -> tuple[int, str, str]:
        # In this process, which has the libraries loaded.
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables.items():
                patch.setenv(name, value)
            done = oddframe_here("sql", *arguments, home=self.home)
        return done.returncode, done.stdout, done.stderr

    def read(self, *arguments: str) -> list[dict[str, object]]:
        code, out, errors = self.ask(*arguments, "--json")
        assert (code, errors) == (0, "")
        return read_lines(out)


@pytest.fixture(scope="module", params=ENGINES)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("place") / "home"
    with ExitStack() as held:
        made = Place(home, {}, Settings().model_copy(update={"home": home}), None)
        if request.param == "presto":
            made = lend_place(home, held.enter_context(lend_namespace(require_stack())))
        held.callback(made.stop)
        tables = open_tables(made.settings)
        fill(tables)
        tables.close()
        yield made


def lend_place(home: Path, namespace: str) -> Place:
    stack = require_stack()
    sections: dict[str, dict[str, object]] = {
        "stores": {"namespace": namespace},
        "stack": {"first_port": stack.first_port, "data": str(stack.data)},
    }
    variables = {f"ODDFRAME_{name.upper()}": json.dumps(values) for name, values in sections.items()}
    settings = Settings.model_validate({"profile": "full", **sections}).model_copy(update={"home": home})
    server = PrestoServer("127.0.0.1", stack.port("presto"), schema=namespace)
    return Place(home, {"ODDFRAME_PROFILE": "full", **variables}, settings, server)


def new_mark() -> str:
    return f"'{token_hex(8)}'"


def test_the_first_row_is_there_before_the_last_and_a_reader_that_goes_away_ends_it(place: Place) -> None:
    mark = new_mark()
    process = place.start(f"SELECT x, y, {mark} AS mark {MANY}", "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    assert list(json.loads(process.stdout.readline())) == ["x", "y", "mark"]
    # A hundred million rows are not made in a moment.
    assert process.poll() is None
    if place.server:
        assert states(place.server, mark) == ["RUNNING"]
    process.stdout.close()
    assert process.wait(timeout=90) == 0
    assert process.stderr.read() == ""
    process.stderr.close()
    if place.server:
        assert why_failed(place.server, mark) == ["USER_CANCELED"]


def peak_of(place: Place, rows: int) -> int:
    """Most memory of the command while it prints that many rows of a thousand letters, in MiB."""
    process = place.start(f"SELECT rpad('a', 1000, 'b') AS text, x {MANY} WHERE y <= {rows // 9999}", "--json")
    assert process.stdout is not None
    assert sum(1 for _ in process.stdout) == rows // 9999 * 9999
    _, status, used = os.wait4(process.pid, 0)
    # The process is gone: there is nothing left to wait for.
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_maxrss // 1024


def test_memory_does_not_grow_with_the_rows(place: Place) -> None:
    few, many = peak_of(place, 9_999), peak_of(place, 159_984)
    # The rows themselves would be 150 MiB.
    assert many - few < 50


def test_an_interrupt_ends_the_statement_where_it_runs(place: Place) -> None:
    mark = new_mark()
    process = place.start(f"{SLOW} AND {mark} <> ''", "--json")
    if place.server:
        assert wait_for_start(place.server, mark) == ["RUNNING"]
    else:
        wait_for_work(process.pid)
    process.send_signal(signal.SIGINT)
    started = monotonic()
    out, errors = process.communicate(timeout=90)
    assert (process.returncode, out, errors.count("\n")) == (130, "", 1)
    assert monotonic() - started < 45
    if place.server:
        assert why_failed(place.server, mark) == ["USER_CANCELED"]


def wait_for_work(process_id: int) -> None:
    """Until threads beside the main one have worked for a second: the engine counts on threads of its own."""
    end = monotonic() + 120
    while monotonic() < end:
        if sum(seconds_of(task) for task in Path(f"/proc/{process_id}/task").iterdir() if task.name != str(process_id)):
            return
        sleep(0.05)
    pytest.fail("the statement never ran")


def seconds_of(task: Path) -> int:
    """Whole seconds of work that a thread did."""
    try:
        return int((task / "stat").read_text().rpartition(")")[2].split()[11]) // os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0


def test_an_interrupt_is_heard_in_the_middle_of_a_call(place: Place) -> None:
    engine, _ = open_sql(place.settings)
    started = monotonic()
    with pytest.raises(KeyboardInterrupt), interrupt_after(2.0):
        engine.query(SLOW)
    assert 1.5 < monotonic() - started < 45


def test_an_error_after_the_first_rows_is_one_line_and_the_rows_stay_whole(place: Place) -> None:
    wrong = "SELECT 1 / (x - 5000) AS inverse FROM unnest(sequence(1, 9999)) AS t (x)"
    code, out, errors = place.ask(wrong, "--json")
    assert (code, errors.count("\n")) == (2, 1)
    assert "division by zero" in errors
    # On a server no row may have come yet.
    assert {line["inverse"] for line in read_lines(out)} <= {0, -1, 1}


def test_a_limit_stops_the_rest(place: Place) -> None:
    mark = new_mark()
    code, out, errors = place.ask(f"SELECT x, {mark} AS mark {MANY}", "--json", "--limit", "3")
    assert (code, len(read_lines(out)), errors) == (0, 3, "only the first 3 rows are shown\n")
    if place.server:
        assert why_failed(place.server, mark) == ["USER_CANCELED"]


def test_what_was_listed_as_a_snapshot_can_be_asked_for(place: Place) -> None:
    tables = open_tables(place.settings)
    before = place.read("--snapshots")
    assert sorted({line["table"] for line in before}) == sorted(ROWS)
    assert {line["table"]: line["rows"] for line in before} == {name: len(rows) for name, rows in ROWS.items()}
    assert {line["operation"] for line in before} == {"append"}
    (old,) = [line for line in before if line["table"] == "quarantine"]
    tables.append("quarantine", ROWS["quarantine"][:2])
    tables.delete("quarantine", {"frame_id": ["bad2"]})
    new = place.read("--snapshots")
    # The newest first; a delete of some rows of a file is an overwrite.
    assert [(line["table"], line["rows"]) for line in new[:2]] == [("quarantine", 6), ("quarantine", 7)]
    assert new[2:] == before
    for as_of, rows in ((None, 6), (new[1]["snapshot"], 7), (new[1]["at"], 7), (old["snapshot"], 5), (old["at"], 5)):
        given = [] if as_of is None else ["--as-of", str(as_of)]
        assert place.read("SELECT count(*) AS n FROM quarantine", *given) == [{"n": rows}], as_of
    by_name = place.read("--query", "open_quarantine", "--as-of", str(old["snapshot"]))
    assert [line["latest_name"] for line in by_name] == ["bad2.fits"]
    assert place.read("--query", "open_quarantine") == []


@pytest.mark.parametrize("as_of", ["5", "yesterday", "", "1e9", "2024-13-01", "' OR 1=1", "9" * 5000])
def test_a_moment_that_is_none_is_told_in_one_line(place: Place, as_of: str) -> None:
    code, out, errors = place.ask("SELECT count(*) FROM frames", "--as-of", as_of)
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert "snapshot" in errors
