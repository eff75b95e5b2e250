"""Settings: which source wins, and one line for every value that cannot be used."""
# ruff: noqa: DTZ001 - times are naive UTC throughout, as the tables have them

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.errors import UsageError
from pipeline.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    import os  # noqa: PLC0415

    for name in [name for name in os.environ if name.startswith("ODDFRAME_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(home: Path, text: str) -> Path:
    home.mkdir(exist_ok=True)
    (home / "oddframe.toml").write_text(text)
    return home


def test_defaults_hold_where_nothing_is_said(tmp_path):
    settings = load_settings()
    assert settings.home == tmp_path / ".oddframe"
    assert (settings.search.budget, settings.search.min_references) == (0.01, 5)


def test_the_environment_wins_over_the_file_and_the_file_over_the_defaults(tmp_path, monkeypatch):
    home = write(tmp_path / "h", "[search]\nbudget = 0.02\nneighbours = 7\n[batch]\nframes = 9\n")
    monkeypatch.setenv("ODDFRAME_SEARCH__BUDGET", "0.03")
    settings = load_settings(home)
    assert (settings.search.budget, settings.search.neighbours, settings.batch.frames) == (0.03, 7, 9)


def test_a_home_that_is_named_wins_over_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ODDFRAME_HOME", str(tmp_path / "env"))
    assert load_settings().home == tmp_path / "env"
    assert load_settings(tmp_path / "named").home == tmp_path / "named"
    assert load_settings(Path("relative")).home == tmp_path / "relative"


def test_an_empty_variable_says_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("ODDFRAME_HOME", "")
    monkeypatch.setenv("ODDFRAME_SEARCH__BUDGET", "")
    settings = load_settings()
    assert (settings.home, settings.search.budget) == (tmp_path / ".oddframe", 0.01)


def test_settings_cannot_be_changed(tmp_path):
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.search.budget = 0.5
    with pytest.raises(ValidationError):
        settings.home = tmp_path


def test_times_are_utc_however_they_are_written(tmp_path):
    for text in ("2024-01-02T03:04:05Z", "2024-01-02T05:04:05+02:00", "2024-01-02T03:04:05"):
        home = write(tmp_path / "h", f'[search]\nobs_after = "{text}"\n')
        assert load_settings(home).search.obs_after == datetime(2024, 1, 2, 3, 4, 5)
    home = write(tmp_path / "h", "[search]\nobs_before = 2024-01-02T05:04:05+02:00\n")
    assert load_settings(home).search.obs_before == datetime(2024, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SEARCH__BUDGET", "1"), ("SEARCH__BUDGET", "-0.1"), ("SEARCH__BUDGET", "nan"), ("SEARCH__BUDGET", "little"),
        ("SEARCH__MIN_REFERENCES", "2"), ("SEARCH__NEIGHBOURS", "0"), ("SEARCH__EXPOSURE_FACTOR", "0.5"),
        ("SEARCH__EXPOSURE_FACTOR", "inf"), ("SEARCH__EXPOSURE_FACTOR", "nan"), ("SEARCH__OBS_AFTER", "tomorrow"),
        ("SEARCH__NO_SUCH", "1"), ("SEARCH", "{bad json"), ("SEARCH", "7"), ("SEARCH__REFERENCE_SET", " "),
        ("DECODE__WORKERS", "0"), ("DECODE__MAX_BYTES", "-5"), ("DECODE__MEMORY_MB", "1"), ("DECODE__SECONDS", "0"),
        ("DECODE__SECONDS", "nan"), ("SKY__ZONE_ORDER", "99"), ("BATCH__FRAMES", "0"), ("BATCH__SECONDS", "-1"),
        ("EMBED__PIXELS_SHAPE", "64"), ("EMBED__PIXELS_SHAPE", "abc"), ("EMBED__PIXELS_SHAPE", "[0, 64]"),
        ("EMBED__PIXELS_SHAPE", "[64, -1]"), ("EMBED__PIXELS_SHAPE", "[1000, 1000]"), ("EMBED__PIXELS_SHAPE", "[1]"),
        ("PROFILE", "cloud"), ("DECODE__MEMORY_MB", "99999999999999"), ("DECODE__WORKERS", "100000"),
        ("SEARCH__EXPOSURE_FACTOR", "1e308"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_told_in_one_line_that_names_it(name, value, monkeypatch):
    monkeypatch.setenv(f"ODDFRAME_{name}", value)
    with pytest.raises(UsageError) as caught:
        load_settings()
    text = str(caught.value)
    assert "\n" not in text
    assert any(part in text.lower() for part in name.lower().split("__"))


@pytest.mark.parametrize(
    "text", ["budget", "[search]\nbudget = 'x'", "[serach]\nbudget = 0.1", "search = 5", "[search]\nbudgte = 1", "a = "]
)
def test_a_file_that_cannot_be_used_is_told_in_one_line_that_names_it(tmp_path, text):
    with pytest.raises(UsageError) as caught:
        load_settings(write(tmp_path / "h", text))
    assert "oddframe.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / "oddframe.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="not valid TOML"):
        load_settings(tmp_path)


def test_every_setting_says_what_it_means():
    for name, section in Settings.model_fields.items():
        fields = getattr(section.annotation, "model_fields", {})
        assert fields or section.description, name
        for key, field in fields.items():
            assert field.description, f"{name}.{key}"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("SERACH__BUDGET", "ODDFRAME_SEARCH__BUDGET"), ("SEARCH__BUDGTE", "ODDFRAME_SEARCH__BUDGET"),
        ("SEARCH_BUDGET", "ODDFRAME_SEARCH__BUDGET"), ("HOEM", "ODDFRAME_HOME"),
        ("WORKERS", "ODDFRAME_DECODE__WORKERS"), ("BATCHES", "ODDFRAME_BATCH"),
        ("XYZZY", "docs/settings.md"), ("", "docs/settings.md"),
    ],
)  # fmt: skip
def test_a_variable_that_is_no_setting_is_told_with_the_nearest_one(name, nearest, monkeypatch):
    monkeypatch.setenv(f"ODDFRAME_{name}", "1")
    with pytest.raises(UsageError) as caught:
        load_settings()
    assert f"ODDFRAME_{name} " in str(caught.value)
    assert nearest in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_setting_of_a_file_that_is_none_is_told_with_the_nearest_one(tmp_path):
    for text in ("[serach]\nbudget = 0.1", "[search]\nbudgte = 1"):
        with pytest.raises(UsageError, match=r"did you mean search(\.budget)?\b"):
            load_settings(write(tmp_path / "h", text))


def test_variables_that_are_settings_or_set_by_oddframe_itself_are_taken(monkeypatch, tmp_path):
    monkeypatch.setenv("oddframe_search__budget", "0.02")
    monkeypatch.setenv("ODDFRAME_BATCH", '{"frames": 3}')
    monkeypatch.setenv("ODDFRAME_SPOOL", str(tmp_path))
    monkeypatch.setenv("ODDFRAME_TEST_DATA", str(tmp_path))
    monkeypatch.setenv("ODDFRAME_NO_SUCH", "")
    settings = load_settings()
    assert (settings.search.budget, settings.batch.frames) == (0.02, 3)


@pytest.mark.parametrize(("name", "value"), [("ARCHIVE__AFTER_DAYS", "1e9"), ("MAINTAIN__KEEP_SNAPSHOTS_DAYS", "1e9")])
def test_a_time_span_beyond_the_calendar_is_told(name, value, monkeypatch):
    monkeypatch.setenv(f"ODDFRAME_{name}", value)
    with pytest.raises(UsageError, match=r"(archive|maintain)\."):
        load_settings()


def test_a_home_whose_name_cannot_be_is_told():
    with pytest.raises(UsageError, match="too long"):
        load_settings(Path("x" * 5000))
