"""A small night through the real `oddframe` command: what programs read, what people read, and the exit codes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.embed.registry import known_embeddings
from pipeline.run.lake import spec_of
from pipeline.run.watch import WatchRules, watch_spool
from pipeline.settings import Settings
from pipeline.source.spool import SpoolSource
from pipeline.store.milvus_lite import open_lite
from tests.contract.test_vector_faults import create_older_collection
from tests.lake_tools import (
    command,
    edit,
    ingest,
    lake_at,
    make_environment,
    oddframe,
    oddframe_here,
    plan_field,
    read_lines,
    redrive,
    rows,
    snapshots,
    write_odd,
    write_plans,
    wrong,
)

REFERENCES, FRAMES = 8, 4
KEYS = [
    *("name", "frame_id", "status", "distance", "p_value", "sigma", "embedding", "nearest", "detections", "reason"),
]


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> Path:
    """A directory with `references` and `science`; of the latter the last is odd and one is broken."""
    directory = tmp_path_factory.mktemp("a night with späces")
    plans = plan_field(REFERENCES, FRAMES + 1, seed=21)
    write_plans(plans[:REFERENCES], directory / "references")
    science = write_plans(plans[REFERENCES:-1], directory / "science")
    write_odd(plans[-1], directory / "science" / "zz-odd.fits")
    edit(science[0], directory / "science" / "zy-bias.fits", OBSTYPE="BIAS")
    edit(science[0], directory / "science" / "zx-long.fits", EXPTIME=600.0)
    (directory / "science" / "zw-broken.fits").write_bytes(science[0].read_bytes()[:7000])
    return directory


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("state") / "a home with späces"


@pytest.fixture(scope="module")
def added(night, home) -> subprocess.CompletedProcess[str]:
    return oddframe("reference", "add", night / "references", "--why", "first", "--json", home=home)


@pytest.fixture(scope="module")
def ingested(added, night, home) -> subprocess.CompletedProcess[str]:
    assert added.returncode == 0, added.stderr
    return oddframe("ingest", night / "science", "--json", home=home)


def test_reference_add_prints_one_line_a_file_in_the_order_given(added, night):
    assert added.returncode == 0, added.stderr
    lines = read_lines(added.stdout)
    assert [line["name"] for line in lines] == sorted(path.name for path in (night / "references").iterdir())
    assert all(list(line) == KEYS for line in lines)
    assert {line["status"] for line in lines} == {"reference"}
    assert all(len(line["frame_id"]) == 64 for line in lines)


def test_ingest_prints_one_line_a_file_and_nothing_else_on_standard_output(ingested, night):
    assert ingested.returncode == 0, ingested.stderr
    lines = read_lines(ingested.stdout)
    assert [line["name"] for line in lines] == sorted(path.name for path in (night / "science").iterdir())
    assert all(list(line) == KEYS for line in lines)
    assert "Traceback" not in ingested.stderr
    assert "{" not in ingested.stderr
    by_name = {line["name"]: line for line in lines}
    assert by_name["zz-odd.fits"]["status"] == "anomaly"
    assert by_name["zy-bias.fits"]["status"] == "not_searched"
    assert by_name["zx-long.fits"]["status"] == "no_reference"
    assert by_name["zw-broken.fits"]["status"] == "unreadable"
    assert by_name["zw-broken.fits"]["reason"].startswith("truncated: ")
    assert [line["status"] for line in lines[:FRAMES]] == ["normal"] * FRAMES


def test_numbers_and_lists_of_a_line_have_their_types(ingested):
    (odd,) = [line for line in read_lines(ingested.stdout) if line["name"] == "zz-odd.fits"]
    assert all(isinstance(odd[key], float) for key in ("distance", "p_value", "sigma"))
    assert odd["embedding"].startswith("pixels@")
    assert [list(one) for one in odd["nearest"]] == [["frame_id", "name", "distance"]] * 3
    fields = ("x", "y", "ra", "dec", "sigma", "kind", "size_px", "angle_deg")
    assert {tuple(one) for one in odd["detections"]} == {fields}
    (bias,) = [line for line in read_lines(ingested.stdout) if line["name"] == "zy-bias.fits"]
    assert [bias[key] for key in ("distance", "p_value", "sigma")] == [None] * 3
    assert (bias["nearest"], bias["detections"]) == ([], [])


def test_ingesting_again_says_the_same_and_writes_nothing(ingested, night, home):
    with lake_at(home) as lake:
        before = snapshots(lake)
    shutil.copy(night / "science" / "zz-odd.fits", home.parent / "copy of odd.fits")
    again = oddframe("ingest", home.parent / "copy of odd.fits", night / "science", "--json", home=home)
    assert again.returncode == 0, again.stderr
    known, *same = again.stdout.splitlines()
    assert same == ingested.stdout.splitlines()
    assert json.loads(known) == {**json.loads(same[-1]), "name": "copy of odd.fits"}
    with lake_at(home) as lake:
        assert snapshots(lake) == before


def test_people_get_a_table_and_a_pattern_names_files(ingested, night, home):
    answer = oddframe_here("ingest", f"{night}/science/zz-*.fits", home=home)
    assert answer.returncode == 0
    assert "zz-odd.fits" in answer.stdout
    assert "anomaly" in answer.stdout
    assert not answer.stdout.lstrip().startswith("{")


def test_verify_agrees_and_says_so_in_json(ingested, home):
    answer = oddframe("verify", "--json", home=home)
    lines = read_lines(answer.stdout)
    assert answer.returncode == 0
    assert all(line["ok"] for line in lines)
    assert len(lines) >= 9


def test_verify_exits_with_1_and_repair_mends(ingested, home):
    with lake_at(home) as lake:
        raw = lake.tables.raw("frames")
        raw.append(raw.scan(limit=1).to_arrow())
    found = oddframe_here("verify", home=home)
    assert found.returncode == 1
    assert "--repair" in found.stderr
    mended = oddframe_here("verify", "--repair", "--json", home=home)
    assert mended.returncode == 0
    assert all(line["ok"] for line in read_lines(mended.stdout))


def test_verdicts_are_listed_oddest_first(ingested, home):
    answer = oddframe_here("verdicts", "--json", "--limit", 3, home=home)
    lines = read_lines(answer.stdout)
    assert answer.returncode == 0
    assert len(lines) == 3
    assert lines[0]["name"] == "zz-odd.fits"
    assert list(lines[0]) == KEYS


def test_explain_replays_bit_for_bit_by_name_and_by_the_beginning_of_an_id(ingested, home):
    (odd,) = [line for line in read_lines(ingested.stdout) if line["name"] == "zz-odd.fits"]
    for wanted in ("zz-odd.fits", odd["frame_id"][:10]):
        answer = oddframe_here("explain", wanted, "--replay", "--json", home=home)
        (line,) = read_lines(answer.stdout)
        assert answer.returncode == 0, answer.stderr
        assert (line["replay_same"], line["replay_differences"]) == (True, [])
        assert {key: line[key] for key in KEYS} == odd


def test_explain_exits_with_1_where_the_score_differs(ingested, home, tmp_path):
    other = tmp_path / "home"
    shutil.copytree(home, other)
    # A stored distance that is not what the bytes give: as if someone had written it.
    with lake_at(home) as lake:
        data = lake.tables.scan("verdicts", where={"name": ["zz-odd.fits"]})
        kept = data.to_pylist()
        changed = type(data).from_pylist([{**kept[0], "distance": kept[0]["distance"] + 1e-12}], schema=data.schema)
        lake.tables.rewrite("verdicts", {"name": ["zz-odd.fits"]}, changed)
    try:
        answer = oddframe_here("explain", "zz-odd.fits", "--replay", "--json", home=home)
        (line,) = read_lines(answer.stdout)
        assert answer.returncode == 1
        assert line["replay_same"] is False
        assert any(text.startswith("distance") for text in line["replay_differences"])
    finally:
        shutil.rmtree(home)
        shutil.copytree(other, home)


def test_explain_draws_a_picture(ingested, home, tmp_path):
    answer = oddframe_here("explain", "zz-odd.fits", "--picture", tmp_path / "p.png", "--json", home=home)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_references_are_listed_audited_and_removed(ingested, home, night):
    listed = read_lines(oddframe_here("reference", "list", "--json", home=home).stdout)
    assert len(listed) == REFERENCES
    audited = read_lines(oddframe_here("reference", "audit", "--json", home=home).stdout)
    assert [line["p_value"] for line in audited] == sorted(line["p_value"] for line in audited)
    assert all(line.keys() >= {"name", "frame_id", "distance", "p_value", "reason"} for line in audited)
    worst = audited[0]["name"]
    removed = oddframe_here("reference", "remove", worst, "--why", "test", "--json", home=home)
    assert [line["name"] for line in read_lines(removed.stdout)] == [worst]
    again = oddframe_here("reference", "remove", worst, home=home)
    assert (again.returncode, again.stdout) == (2, "")
    assert oddframe_here("explain", "zz-odd.fits", "--replay", "--json", home=home).returncode == 0
    back = oddframe_here("reference", "add", night / "references" / worst, home=home)
    assert back.returncode == 0
    assert len(read_lines(oddframe_here("reference", "list", "--json", home=home).stdout)) == REFERENCES
    with lake_at(home) as lake:
        assert wrong(lake) == {}


def test_a_quarantined_file_is_driven_again(ingested, home, night):
    answer = oddframe_here("ingest", "--quarantined", "--json", home=home)
    assert answer.returncode == 0
    assert [line["name"] for line in read_lines(answer.stdout)] == ["zw-broken.fits"]


def test_the_quarantine_is_driven_again_in_batches(ingested, home, night, tmp_path):
    other = tmp_path / "home"
    shutil.copytree(home, other)
    whole = (night / "science" / "zz-odd.fits").read_bytes()
    broken = [tmp_path / f"broken{number}.fits" for number in range(5)]
    for number, path in enumerate(broken):
        path.write_bytes(whole[: 6000 + number])
    with lake_at(other, batch={"bulk_frames": 2}) as lake:
        reports = ingest(lake, broken)
        sizes: list[int] = []
        enrol = lake.source.enrol
        lake.source.enrol = lambda raw: sizes.append(len(raw)) or enrol(raw)
        assert redrive(lake)[-5:] == reports
        assert sizes == [2, 2, 2]
        assert wrong(lake) == {}


def test_a_vector_store_of_another_version_is_told_and_the_advice_mends_it(ingested, home, night, tmp_path):
    other = tmp_path / "home"
    shutil.copytree(home, other)
    shutil.rmtree(other / "vectors.db")
    older = open_lite(other / "vectors.db")
    for embedding in known_embeddings(Settings().embed.pixels_shape):
        create_older_collection(older, spec_of(embedding))
    older.close()
    edit(night / "science" / "zz-odd.fits", tmp_path / "new.fits", MARK=2)
    refused = oddframe_here("ingest", tmp_path / "new.fits", home=other)
    assert refused.returncode == 3
    assert "remove vectors.db in the home" in refused.stderr
    examined = oddframe_here("doctor", "--json", home=other)
    assert examined.returncode == 1
    assert [line["check"] for line in read_lines(examined.stdout) if not line["ok"]] == ["vectors"]
    shutil.rmtree(other / "vectors.db")
    mended = oddframe_here("verify", "--repair", home=other)
    assert mended.returncode == 0, mended.stderr
    answer = oddframe_here("ingest", tmp_path / "new.fits", "--json", home=other)
    assert [line["status"] for line in read_lines(answer.stdout)] == ["anomaly"]
    assert oddframe_here("explain", "zz-odd.fits", "--replay", home=other).returncode == 0


def test_a_damaged_journal_is_told_and_the_advice_mends_it(ingested, home, night, tmp_path):
    other = tmp_path / "home"
    shutil.copytree(home, other)
    (other / "spool.db").write_bytes(b"no database" * 1000)
    refused = oddframe_here("ingest", night / "science", home=other)
    assert refused.returncode == 3
    assert f"move {other}/spool.db" in refused.stderr
    for path in other.glob("spool.db*"):
        path.unlink()
    answer = oddframe_here("ingest", night / "science", "--json", home=other)
    assert answer.stdout == ingested.stdout
    assert oddframe_here("verify", home=other).returncode == 0


def test_sql_answers_a_row_a_line(ingested, home):
    statement = "select status, count(*) as n from verdicts where name = 'zz-odd.fits' group by status"
    answer = oddframe_here("sql", statement, "--json", home=home)
    assert read_lines(answer.stdout) == [{"status": "anomaly", "n": 1}]


def test_a_home_in_use_is_told_with_exit_code_3(ingested, home):
    with lake_at(home):
        answer = oddframe("ingest", home, "--json", home=home)
    assert answer.returncode == 3
    assert answer.stdout == ""
    assert answer.stderr.startswith("oddframe: ")
    assert "in use by another oddframe process" in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_watch_follows_a_spool_and_stops_cleanly_when_it_is_told_to(ingested, home, night, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    process = subprocess.Popen(
        command("watch", spool, "--json", "--seconds", 0.2, "--frames", 1), env=make_environment(home),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert "watching" in process.stderr.readline()
        shutil.copy(night / "science" / "zz-odd.fits", tmp_path / "x")
        (tmp_path / "x").rename(spool / "known.fits")
        first = json.loads(process.stdout.readline())
        edit(night / "science" / "zz-odd.fits", tmp_path / "y", MARK=1)
        (tmp_path / "y").rename(spool / "known.fits")
        second = json.loads(process.stdout.readline())
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=60)
        took = time.monotonic() - started
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    assert (first["name"], first["status"], second["status"]) == ("known.fits", "anomaly", "anomaly")
    assert first["frame_id"] != second["frame_id"]
    assert out == ""
    assert "stopped: 2 anomaly" in errors
    assert "Traceback" not in errors
    assert took < 30
    with lake_at(home) as lake:
        delivered = rows(lake, "deliveries", name="known.fits")
        assert sorted(row["outcome"] for row in delivered) == ["duplicate", "new"]
        assert wrong(lake) == {}


def test_what_only_reads_works_while_a_spool_is_watched(ingested, home, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    process = subprocess.Popen(
        command("watch", spool), env=make_environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert "watching" in process.stderr.readline()
        listed = oddframe_here("reference", "list", "--json", home=home)
        assert (listed.returncode, len(read_lines(listed.stdout))) == (0, REFERENCES)
        for arguments in (["verdicts"], ["explain", "zz-odd.fits"], ["sql", "select 1"]):
            assert oddframe_here(*arguments, home=home).returncode == 0
        examined = oddframe_here("doctor", "--json", home=home)
        (vectors,) = [line for line in read_lines(examined.stdout) if line["check"] == "vectors"]
        assert (examined.returncode, vectors["ok"], vectors["advice"]) == (0, True, "")
        assert "in use by another oddframe process" in vectors["detail"]
        assert oddframe_here("reference", "audit", home=home).returncode == 3
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 0


class NeverLands:
    """An ingestor that can read no file at all."""

    def __init__(self) -> None:
        self.tried: list[float] = []

    def ingest(self, paths):
        for path in paths:
            self.tried.append(time.monotonic())
            yield {"name": path.name, "frame_id": None}


def test_a_file_that_is_refused_again_and_again_is_tried_ever_more_seldom(tmp_path):
    (tmp_path / "endless.fits").write_bytes(b"x")
    source = SpoolSource(tmp_path / "home" / "spool.db")
    ingestor = NeverLands()
    rules = WatchRules(frames=1, seconds=0, settle_seconds=0, poll_seconds=0.01, retry_seconds=0.1)
    list(watch_spool(ingestor, source, tmp_path, rules, lambda: len(ingestor.tried) == 4))
    source.close()
    first, second, third = (after - before for before, after in pairwise(ingestor.tried))
    assert (first >= 0.1, second >= 0.2, third >= 0.4) == (True, True, True)


def test_ctrl_c_ends_an_ingest_with_one_line_and_the_next_goes_on(added, tmp_path, night):
    home = tmp_path / "home"
    for number in range(30):
        edit(night / "science" / "zz-odd.fits", tmp_path / "many" / f"{number:02}.fits", NUMBER=number)
    process = subprocess.Popen(
        command("ingest", tmp_path / "many", "--json"), env=make_environment(home, ODDFRAME_BATCH__BULK_FRAMES="3"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    # On a slow machine a line of progress may come first.
    (*before, last) = errors.splitlines()
    assert last == "oddframe: interrupted; what was committed is kept, run the same command to go on"
    assert all(line.startswith("ingest: ") for line in before)
    answer = oddframe("ingest", tmp_path / "many", "--json", home=home)
    assert len(read_lines(answer.stdout)) == 30
    with lake_at(home) as lake:
        assert len(rows(lake, "frames")) == 30
        assert wrong(lake) == {}
