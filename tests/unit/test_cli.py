"""Wrong use of the command: exit code 2, one line on stderr, nothing on stdout, never a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.cli.app import run


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    for name in [name for name in os.environ if name.startswith("ODDFRAME_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ODDFRAME_HOME", str(tmp_path / "home"))
    (tmp_path / "file.fits").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    return tmp_path / "home"


WRONG = [
    ["no-such-command"], ["ingset"], ["--no-such-option"], ["ingest"], ["ingest", "missing.fits"], ["ingest", ""],
    ["ingest", "*.png"], ["ingest", "a**b"], ["ingest", "x" * 5000], ["ingest", "empty"],
    ["ingest", "file.fits", "--embedding", "no-such"], ["ingest", "file.fits", "--no-such"], ["ingest", "--json"],
    ["ingest", "file.fits", "--embedding"], ["watch"], ["watch", "missing"], ["watch", "file.fits"],
    ["watch", "empty", "--frames", "many"], ["watch", "empty", "--frames", "0"], ["watch", "empty", "--frames", "-3"],
    ["watch", "empty", "--seconds", "-1"], ["watch", "empty", "--seconds", "nan"],
    ["reference", "add"], ["reference", "add", "missing"], ["reference", "remove"], ["reference", "remove", "nobody"],
    ["reference", "no-such"], ["reference", "add", "file.fits", "--embedding", "no-such"],
    ["verdicts", "--status", "odd"], ["verdicts", "--night", "yesterday"], ["verdicts", "--limit", "few"],
    ["verdicts", "--limit", "-1"], ["explain"], ["explain", "nobody"], ["explain", "nobody", "--replay"],
    ["sql"], ["sql", "select"], ["sql", "select 1; select 2"], ["sql", "drop table frames"],
    ["sql", "--query", "no-such"],
    ["sql", "select 1", "--query", "flagged_per_night"], ["sql", "--query", "flagged_per_night", "--set", "novalue"],
    ["sql", "select 1", "--limit", "-5"], ["sql", "select * from no_such_table"],
    ["simulate"], ["simulate", "out", "--size", "4"], ["simulate", "out", "--preset", "no-such"],
    ["simulate", "out", "--fields", "0"], ["simulate", "file.fits"], ["simulate", "out", "--seed", "-1"],
    ["produce", "--spool", "s"], ["produce", "file.fits"], ["produce", "file.fits", "--spool", "file.fits"],
    ["produce", "file.fits", "--spool", "s", "--burst", "0"],
    ["produce", "file.fits", "--spool", "s", "--cadence", "-1"],
    ["demo", "--size", "4"], ["verify", "surplus"], ["doctor", "--no-such"],
]  # fmt: skip


@pytest.mark.parametrize("arguments", WRONG, ids=lambda a: " ".join(a)[:60] or "empty")
def test_wrong_use_is_told_in_one_line(home, capsys, arguments):
    code = run(arguments)
    said = capsys.readouterr()
    assert code == 2, said.err
    assert said.out == ""
    assert said.err.startswith("oddframe: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    assert not (Path.cwd() / "oddframe-fault.log").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("SEARCH__BUDGET", "7"), ("EMBED__PIXELS_SHAPE", "abc"), ("SEARCH__ELIGIBILITY_FILE", "missing.toml")],
)
def test_a_wrong_setting_is_wrong_use(home, capsys, monkeypatch, name, value):
    monkeypatch.setenv(f"ODDFRAME_{name}", value)
    code = run(["ingest", "file.fits"])
    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("command", [["ingest", "file.fits"], ["verdicts"], ["verify"], ["sql", "select 1"]])
def test_a_home_that_cannot_be_is_told_with_exit_code_3(home, capsys, command):
    code = run([*command, "--home", "file.fits"])
    said = capsys.readouterr()
    assert (code, said.out) == (3, "")
    assert said.err.startswith("oddframe: ")
    assert said.err.count("\n") == 1


def test_a_picture_that_cannot_be_written_is_no_fault_of_ours(home, capsys):
    assert run(["ingest", "file.fits"]) == 0
    capsys.readouterr()
    code = run(["explain", "file.fits", "--picture", "no/such/directory/p.png"])
    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "a fault in oddframe" not in said.err


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["ingest", "--help"], ["reference", "--help"]])
def test_help_and_version_are_no_wrong_use(home, capsys, arguments):
    assert run(arguments) == 0
    assert capsys.readouterr().out


def test_a_near_miss_is_suggested(home, capsys):
    run(["ingset"])
    assert "did you mean ingest?" in capsys.readouterr().err


def test_an_empty_lake_answers_every_question_with_nothing(home, capsys):
    for arguments in (["verdicts"], ["reference", "list"], ["reference", "audit"], ["sql", "select * from frames"]):
        assert run([*arguments, "--json"]) == 0
        assert capsys.readouterr().out == ""
    assert run(["verify", "--json"]) == 0
    assert run(["ingest", "--quarantined", "--json"]) == 0


def test_a_fault_of_ours_is_one_line_and_keeps_its_traceback(home, capsys, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("pipeline.cli.verdicts.open_tables", fail)
    code = run(["verdicts"])
    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n")) == (3, "", 1)
    assert "a fault in oddframe" in said.err
    assert "Traceback" in (Path.cwd() / "oddframe-fault.log").read_text()
