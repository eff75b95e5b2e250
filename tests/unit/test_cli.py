"""Wrong use of the command: exit code 2, one line on stderr, nothing on stdout, never a traceback."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from pipeline.cli.app import Common, run
from pipeline.cli.demo import _choose_settings
from pipeline.errors import UsageError
from pipeline.parts import open_tables
from pipeline.run.lake import CODE_VERSION
from pipeline.settings import Settings


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    for name in [name for name in os.environ if name.startswith("ODDFRAME_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ODDFRAME_HOME", str(tmp_path / "home"))
    (tmp_path / "file.fits").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    return tmp_path / "home"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A home that is there and holds nothing."""
    home = tmp_path_factory.mktemp("made") / "home"
    open_tables(Settings().model_copy(update={"home": home})).close()
    return home


WRONG = [
    ["no-such-command"], ["ingset"], ["--no-such-option"], ["ingest"], ["ingest", "missing.fits"], ["ingest", ""],
    ["ingest", "*.png"], ["ingest", "a**b"], ["ingest", "a/**x.fits"], ["ingest", "x" * 5000], ["ingest", "empty"],
    ["ingest", "file.fits", "--embedding", "no-such"], ["ingest", "file.fits", "--no-such"], ["ingest", "--json"],
    ["ingest", "file.fits", "--embedding"], ["watch"], ["watch", "missing"], ["watch", "file.fits"],
    ["watch", "empty", "--frames", "many"], ["watch", "empty", "--frames", "0"], ["watch", "empty", "--frames", "-3"],
    ["watch", "empty", "--seconds", "-1"], ["watch", "empty", "--seconds", "nan"],
    ["reference", "add"], ["reference", "add", "missing"], ["reference", "remove"], ["reference", "remove", "nobody"],
    *(["reference", "promote", *more]
      for more in (["--days", "-1"], ["--days", "nan"], ["--most", "0"], ["--p", "1.5"], ["--p", "nan"], ["x"])),
    ["reference", "no-such"], ["reference", "add", "file.fits", "--embedding", "no-such"],
    ["verdicts", "--status", "odd"], ["verdicts", "--night", "yesterday"], ["verdicts", "--limit", "few"],
    ["verdicts", "--limit", "-1"], ["verdicts", "--alarms", "1"], ["verdicts", "--fdr", "0.1"],
    *(["verdicts", "--night", "2026-03-12", *more]
      for more in (["--alarms", "1", "--fdr", "0.1"], ["--alarms", "0"], ["--alarms", "-1"], ["--alarms", "nan"],
                   ["--alarms", "inf"], ["--alarms", "few"], ["--fdr", "0"], ["--fdr", "1"], ["--fdr", "nan"])),
    ["explain"], ["explain", "nobody"], ["explain", "nobody", "--replay"],
    ["sql"], ["sql", "select"], ["sql", "select 1; select 2"], ["sql", "drop table frames"],
    ["sql", "--query", "no-such"],
    ["sql", "select 1", "--query", "flagged_per_night"], ["sql", "--query", "flagged_per_night", "--set", "novalue"],
    ["sql", "select 1", "--limit", "-5"], ["sql", "select * from no_such_table"],
    ["sql", "select 1", "--as-of", "yesterday"], ["sql", "select 1", "--as-of", "5"], ["sql", "select 1", "--as-of"],
    ["sql", "--list", "--as-of", "2024-01-31"], ["sql", "--snapshots", "--set", "a=b"],
    ["sql", "--snapshots", "--list"], ["sql", "select 1", "--snapshots"], ["sql", "select \udcff"],
    ["sql", "select :v", "--set", "v=\udcff"], ["sql", "--no-such"], ["sql", "-x"], ["sql", "--qery=a b"],
    ["sql", "--"], ["simulate"], ["simulate", "out", "--size", "4"], ["simulate", "out", "--preset", "no-such"],
    ["simulate", "out", "--fields", "0"], ["simulate", "file.fits"], ["simulate", "out", "--seed", "-1"],
    ["produce", "--spool", "s"], ["produce", "file.fits"], ["produce", "file.fits", "--spool", "file.fits"],
    ["produce", "file.fits", "--spool", "s", "--burst", "0"],
    ["produce", "file.fits", "--spool", "s", "--cadence", "-1"],
    ["demo", "--size", "4"], ["verify", "surplus"], ["doctor", "--no-such"], ["verdicts", "--home", "x" * 5000],
]  # fmt: skip


@pytest.mark.parametrize("arguments", WRONG, ids=lambda a: " ".join(a)[:60] or "empty")
def test_wrong_use_is_told_in_one_line(home, made, capsys, arguments):
    shutil.copytree(made, home)
    code = run(arguments)
    said = capsys.readouterr()
    assert code == 2, said.err
    assert said.out == ""
    assert said.err.startswith("oddframe: ")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    assert "no oddframe home" not in said.err
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


OUT_OF_RANGE = [
    *(["watch", "empty", "--frames", value] for value in ("0", "-3")),
    *(["watch", "empty", "--seconds", value] for value in ("-1", "nan", "inf", "1e300")),
    *(["produce", "file.fits", "--spool", "s", "--cadence", value] for value in ("-1", "nan", "inf", "1e300")),
    *(["produce", "file.fits", "--spool", "s", "--burst", value] for value in ("0", "-1")),
    *(["simulate", "out", option, "-1"] for option in ("--seed", "--fields", "--references", "--frames", "--size")),
    ["simulate", "out", "--fields", "0"], ["simulate", "out", "--size", "31"], ["simulate", "out", "--size", "1000000"],
    ["simulate", "out", "--reference-nights", "-1"],
    *(["demo", "out", option, "-1"] for option in ("--seed", "--frames", "--size")), ["demo", "out", "--frames", "0"],
    ["sql", "select 1", "--limit", "-5"],
    *(["archive", "--older-than-days", value] for value in ("-1", "nan", "inf", "1e12")),
    *(["flows", "serve", "--port", value] for value in ("-1", "65536")),
]  # fmt: skip


@pytest.mark.parametrize("arguments", OUT_OF_RANGE, ids=" ".join)
def test_a_number_that_makes_no_sense_is_told_with_its_option_before_anything_is_done(home, capsys, arguments):
    code = run(arguments)
    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n")) == (2, "", 1)
    assert arguments[-2].strip("-") in said.err
    assert not home.exists()
    assert not Path("out").exists()


def test_a_name_that_is_nearly_a_setting_is_told(home, capsys, monkeypatch):
    monkeypatch.setenv("ODDFRAME_SERACH__BUDGET", "0.02")
    assert run(["ingest", "file.fits"]) == 2
    said = capsys.readouterr().err
    assert "ODDFRAME_SERACH__BUDGET" in said
    assert "ODDFRAME_SEARCH__BUDGET" in said


@pytest.fixture
def fresh(home, capsys) -> Path:
    assert run(["ingest", "--quarantined"]) == 0
    capsys.readouterr()
    return home


def test_what_only_reads_leaves_every_file_as_it_was(fresh):
    before = {path: path.stat().st_size for path in (fresh / "warehouse").rglob("*")}
    for arguments in (["verdicts"], ["sql", "select * from frames"], ["reference", "list"], ["doctor"]):
        assert run(arguments) == 0
    assert {path: path.stat().st_size for path in (fresh / "warehouse").rglob("*")} == before


@pytest.mark.parametrize("arguments", [["verdicts"], ["verify"], ["ingest", "file.fits"]], ids=" ".join)
def test_a_damaged_catalogue_is_told_in_one_line(fresh, capsys, arguments):
    (fresh / "catalog.db").write_bytes(b"no database" * 1000)
    code = run(arguments)
    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n")) == (3, "", 1)
    assert f"{fresh}/catalog.db is damaged" in said.err


def test_a_store_that_does_not_open_leaves_none_open(fresh, capsys):
    whole = (fresh / "spool.db").read_bytes()
    (fresh / "spool.db").write_bytes(b"no database" * 1000)
    assert run(["verify"]) == 3
    (fresh / "spool.db").write_bytes(whole)
    assert run(["verify"]) == 0


READING = [
    ["verdicts"], ["sql", "select 1"], ["sql", "--query", "flagged_per_night"], ["sql", "--snapshots"],
    ["explain", "file.fits"],
    ["explain", "file.fits", "--replay"], ["reference", "list"], ["reference", "audit"], ["reference", "remove", "x"],
    ["reference", "promote"], ["reference", "promote", "--dry-run"],
    ["verify"], ["verify", "--repair"], ["archive"], ["archive", "--dry-run"],
    ["maintain"], ["maintain", "--dry-run"], ["maintain", "--unpin", "x"],
    ["maintain", "--pin", "frames:1", "--as", "x"],
]  # fmt: skip


@pytest.mark.parametrize("there", [False, True], ids=["no directory", "another directory"])
@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_what_only_reads_makes_no_home(home, capsys, arguments, there):
    if there:
        home.mkdir()
    code = run(arguments)
    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n")) == (2, "", 1)
    assert f"no oddframe home at {home}" in said.err
    assert "oddframe ingest" in said.err
    assert not home.exists() or list(home.iterdir()) == []


def test_a_statement_on_standard_input_that_is_no_text_is_told(home, made, capsys, monkeypatch):
    shutil.copytree(made, home)
    for content, code in ((b"select 1 as one", 0), (b"select '\xff'", 2)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
        assert run(["sql", "-", "--json"]) == code
    said = capsys.readouterr()
    assert said.out == '{"one": 1}\n'
    assert said.err == "oddframe: the statement on standard input is not UTF-8\n"


def test_a_statement_may_begin_with_a_comment(home, made, capsys):
    shutil.copytree(made, home)
    assert run(["sql", "-- one\nselect 1 as one", "--json"]) == 0
    assert capsys.readouterr().out == '{"one": 1}\n'


def test_the_queries_are_listed_without_a_home(home, capsys):
    assert run(["sql", "--list", "--json"]) == 0
    assert "flagged_per_night" in capsys.readouterr().out
    assert not home.exists()


def test_doctor_looks_at_the_machine_where_there_is_no_home(home, capsys):
    assert run(["doctor", "--json"]) == 0
    found = {line["check"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {"python", "disk", "home"} <= found.keys()
    assert f"no oddframe home at {home}" in found["home"]["detail"]
    assert not home.exists()


def test_there_is_one_version(home, capsys):
    project = Path(__file__).parents[2] / "pyproject.toml"
    (written,) = re.findall(r'^version = "(.+)"$', project.read_text(), re.MULTILINE)
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == CODE_VERSION == written


def test_a_near_miss_is_suggested(home, capsys):
    run(["ingset"])
    assert "did you mean ingest?" in capsys.readouterr().err


def test_an_empty_lake_answers_every_question_with_nothing(home, capsys):
    assert run(["ingest", "--quarantined", "--json"]) == 0
    for arguments in (
        ["verdicts"],
        ["reference", "list"],
        ["reference", "audit"],
        ["reference", "promote"],
        ["sql", "select * from frames"],
    ):
        assert run([*arguments, "--json"]) == 0
        assert capsys.readouterr().out == ""
    assert run(["verify", "--json"]) == 0


def test_a_fault_of_ours_is_one_line_and_keeps_its_traceback(home, capsys, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("two\nlines")

    assert run(["ingest", "--quarantined"]) == 0
    capsys.readouterr()
    monkeypatch.setattr("pipeline.cli.verdicts.open_tables", fail)
    code = run(["verdicts"])
    said = capsys.readouterr()
    assert (code, said.out, said.err.count("\n")) == (3, "", 1)
    assert "a fault in oddframe" in said.err
    assert "Traceback" in (Path.cwd() / "oddframe-fault.log").read_text()


def test_a_demo_uses_the_stack_of_its_home_and_keeps_its_hands_off_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ODDFRAME_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "mine"
    (home / "stack").mkdir(parents=True)
    for _ in range(2):
        settings = _choose_settings(tmp_path / "demo", "full", Common(home=home))
        assert settings.stack.data == home / "stack"
        assert settings.profile == "full"
    apart = _choose_settings(tmp_path / "demo", "full", Common(home=tmp_path / "other"))
    assert apart.stack.data == tmp_path / ".oddframe" / "stack"
    (home / "oddframe.toml").write_text('profile = "full"\n', encoding="utf-8")
    with pytest.raises(UsageError, match="name another --home"):
        _choose_settings(tmp_path / "demo", "full", Common(home=home))
    assert (home / "oddframe.toml").read_text(encoding="utf-8") == 'profile = "full"\n'
