"""A night whose originals grow old in a bucket: archived, verified, explained, replayed and driven again from there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.parts import open_originals
from pipeline.run.verify import verify_lake
from pipeline.settings import load_settings
from pipeline.store.originals_s3 import S3Connection, S3Originals
from tests.lake_tools import (
    add_references,
    ingest,
    lake_at,
    oddframe_here,
    plan_field,
    read_lines,
    redrive,
    write_odd,
    write_plans,
    wrong,
)

REFERENCES, FRAMES = 8, 2
UNKNOWN = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
def night(tmp_path_factory) -> dict[str, list[Path]]:
    directory = tmp_path_factory.mktemp("night")
    plans = plan_field(REFERENCES, FRAMES + 1)
    science = write_plans(plans[REFERENCES:-1], directory / "science")
    odd = write_odd(plans[-1], directory / "science" / "odd.fits")
    broken = directory / "science" / "broken.fits"
    broken.write_bytes(science[0].read_bytes()[:5000])
    return {"references": write_plans(plans[:REFERENCES], directory / "references"), "science": [*science, odd, broken]}


@pytest.fixture
def connection(s3) -> S3Connection:
    return s3.connect()


@pytest.fixture
def home(s3, connection, night, tmp_path) -> Path:
    """A home with a night in it, whose settings name a bucket."""
    home = tmp_path / "home"
    home.mkdir()
    write_settings(home, s3.describe(connection))
    with lake_at(home, archive=s3.describe(connection)) as lake:
        add_references(lake, night["references"])
        ingest(lake, night["science"])
    return home


def write_settings(home: Path, archive: dict[str, str]) -> None:
    lines = [f"{name} = {json.dumps(value)}" for name, value in archive.items()]
    (home / "oddframe.toml").write_text("\n".join(["[archive]", *lines]), encoding="utf-8")


def archive_all(home: Path) -> dict[str, object]:
    done = oddframe_here("archive", "--older-than-days", 0, "--json", home=home)
    assert done.returncode == 0, done.stderr
    return next(line for line in read_lines(done.stdout) if line["step"] == "originals")


def hot(home: Path) -> list[Path]:
    return [path for path in (home / "originals").rglob("*") if path.is_file()]


def test_a_night_goes_to_the_bucket_and_everything_is_read_from_there(home, s3, connection, night, tmp_path):
    everything = [*night["references"], *night["science"]]
    assert len(hot(home)) == len(everything)
    told = archive_all(home)
    assert (told["moved"], told["kept"], told["problems"]) == (len(everything), 0, 0)
    assert hot(home) == []
    bucket = S3Originals(connection, tmp_path / "fetched", 2**30)
    assert {bucket.locate(i).read_bytes() for i in bucket.ids()} == {path.read_bytes() for path in everything}

    for name in ("odd.fits", night["science"][0].name):
        explained = oddframe_here("explain", name, "--replay", "--json", home=home)
        assert (explained.returncode, read_lines(explained.stdout)[0]["replay_same"]) == (0, True), explained.stderr
    drawn = oddframe_here("explain", "odd.fits", "--picture", tmp_path / "odd.png", "--json", home=home)
    assert drawn.returncode == 0, drawn.stderr
    assert (tmp_path / "odd.png").stat().st_size > 10_000
    assert archive_all(home)["moved"] == 0


def test_verifying_an_archived_night_downloads_nothing_and_misses_what_is_gone(home, s3, connection):
    archive_all(home)
    with lake_at(home, archive=s3.describe(connection)) as lake:
        with s3.listen("GET") as asked:
            assert wrong(lake) == {}
        assert [line for line in asked if "list-type=2" not in line] == []
        assert asked, "the bucket was listed"
        bucket = open_originals(load_settings(home)).archive
        gone = next(bucket.ids())
        bucket.remove(gone)
        (check,) = [check for check in verify_lake(lake) if not check.agrees]
        assert (check.differences, check.repair) == ((gone,), "deliver it again")


def test_what_is_in_quarantine_is_driven_again_from_the_bucket(home, s3, connection, tmp_path):
    with lake_at(home, archive=s3.describe(connection), decode={"max_pixels": 1000}) as lake:
        (report, *_) = redrive(lake)
        assert report["status"] == "unreadable"
    archive_all(home)
    shutil.rmtree(home / "fetched", ignore_errors=True)
    with lake_at(home, archive=s3.describe(connection)) as lake:
        assert [report["name"] for report in redrive(lake)] == ["broken.fits"]


def test_a_known_frame_is_answered_while_the_bucket_cannot_be_reached(home, s3, connection, night):
    with lake_at(home, archive=s3.describe(connection)) as lake:
        before = ingest(lake, night["science"])
    archive_all(home)
    with lake_at(home, archive=s3.describe(connection) | {"s3_endpoint": UNKNOWN}) as lake:
        assert ingest(lake, night["science"]) == before
    assert archive_all(home)["moved"] == len(night["science"]), "what came again goes again, once it was proved there"
    assert hot(home) == []


@pytest.mark.parametrize("command", [("archive", "--older-than-days", "0"), ("verify",)])
def test_a_bucket_that_cannot_be_reached_is_one_line_and_nothing_moves(home, s3, connection, command):
    kept = len(hot(home))
    write_settings(home, s3.describe(connection) | {"s3_endpoint": UNKNOWN})
    told = oddframe_here(*command, home=home)
    assert told.returncode == 3
    assert f"{UNKNOWN} does not answer for {connection.uri}" in told.stderr
    assert "Traceback" not in told.stderr
    assert len(hot(home)) == kept
    write_settings(home, s3.describe(connection))
    with s3.refusing():
        told = oddframe_here(*command, home=home)
    assert told.returncode == 2
    assert "refuses the credentials" in told.stderr
    assert "not-to-be-shown" not in told.stdout + told.stderr
    assert len(hot(home)) == kept


def test_doctor_says_what_is_wrong_with_the_bucket(home, s3, connection):
    def examine() -> dict[str, object]:
        lines = read_lines(oddframe_here("doctor", "--json", home=home).stdout)
        return next(line for line in lines if line["check"] == "originals")

    assert examine()["ok"]
    write_settings(home, s3.describe(s3.connect("nowhere")))
    found = examine()
    assert not found["ok"]
    assert "no bucket nowhere" in str(found["detail"])


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        ({"s3_uri": "s3://bucket/a", "root": "elsewhere"}, "root and s3_uri are both set"),
        ({"s3_uri": "s3://bucket/a", "s3_access_key": "k"}, "s3_access_key and s3_secret_key go together"),
        ({"s3_uri": "s3://bucket/a", "s3_secret_key": "quiet"}, "s3_access_key and s3_secret_key go together"),
        ({"s3_uri": "https://bucket/a"}, "archive.s3_uri"),
        ({"s3_uri": "s3://"}, "archive.s3_uri"),
        ({"s3_uri": "s3://bucket//a"}, "archive.s3_uri"),
        ({"s3_uri": "s3://bucket/../a"}, "archive.s3_uri"),
        ({"s3_endpoint": "127.0.0.1:9000"}, "archive.s3_endpoint"),
        ({"s3_endpoint": "http://user:quiet@host"}, "archive.s3_endpoint"),
    ],
)
def test_settings_that_cannot_be_used_are_told_in_one_line(tmp_path, archive, told):
    write_settings(tmp_path, archive)
    with pytest.raises(UsageError) as caught:
        load_settings(tmp_path)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "quiet" not in str(caught.value)


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/", "s3://my.bucket-1/oddframe/v1.2/"])
def test_a_bucket_takes_the_place_of_the_directory(tmp_path, uri):
    write_settings(tmp_path, {"s3_uri": uri, "s3_secret_key": "quiet", "s3_access_key": "k"})
    settings = load_settings(tmp_path)
    assert "quiet" not in repr(settings)
    archive = open_originals(settings).archive
    assert isinstance(archive, S3Originals)
    assert archive._connection.root == uri.removeprefix("s3://").rstrip("/")
