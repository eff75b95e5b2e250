"""Rules that keep a frame from being searched: the built-in ones, and what a wrong file is told."""

from __future__ import annotations

from importlib import resources
from unittest.mock import MagicMock

import pytest

from pipeline.errors import UsageError
from pipeline.judge.eligibility import NUMBERS, TEXTS, find_objection, load_rules
from pipeline.run import detect
from pipeline.run.prepared import Prepared

SKY = {"image_type": "OBJECT", "exposure_s": 60.0, "valid_fraction": 1.0}


def object_to(columns: dict, header: dict | None = None) -> str | None:
    return find_objection(load_rules(), SKY | columns, header or {})


@pytest.mark.parametrize("kind", ["BIAS", "bias", " Dark ", "FLAT", "SKYFLAT", "zero", "Bias Frame", "ARC", "focus"])
def test_calibration_frames_are_not_searched(kind):
    assert kind.strip() in object_to({"image_type": kind})


@pytest.mark.parametrize(
    "kind", ["OBJECT", "EXPOSE", "science", "LIGHT", "STANDARD", "", "darkness", "flat tyre", None]
)
def test_frames_of_the_sky_are_searched(kind):
    assert object_to({"image_type": kind}) is None


def test_what_a_frame_lacks_is_no_objection():
    assert find_objection(load_rules(), {}, {}) is None
    assert find_objection(load_rules(), dict.fromkeys(SKY), {}) is None


@pytest.mark.parametrize(
    ("columns", "header", "word"),
    [
        ({"exposure_s": 0.0}, {}, "0.0 s"),
        ({"exposure_s": -1.0}, {}, "exposure"),
        ({"valid_fraction": 0.05}, {}, "5.0%"),
        ({}, {"WMSRAIN": "Raining"}, "weather"),
        ({}, {"WEATHERS": "unsafe"}, "weather"),
        ({}, {"SHUTTER": "CLOSED"}, "shutter"),
    ],
)
def test_exposure_sky_weather_and_shutter_can_object(columns, header, word):
    assert word in object_to(columns, header)


def test_a_rule_may_look_at_every_column_that_a_frame_is_asked_for():
    assert {"exposure_s", "image_type", "stars"} <= NUMBERS | TEXTS
    assert set(detect._eligibility_columns(Prepared(MagicMock(), {}))) == NUMBERS | TEXTS


def test_the_first_rule_that_holds_decides():
    assert "image type" in object_to({"image_type": "bias", "exposure_s": 0.0})


def test_the_built_in_rules_are_what_the_file_of_the_package_says(tmp_path):
    text = (resources.files("pipeline.judge") / "data" / "eligibility.toml").read_text()
    (tmp_path / "rules.toml").write_text(text)
    assert [r.field for r in load_rules(tmp_path / "rules.toml")] == [r.field for r in load_rules()]


def write(tmp_path, text: str):
    path = tmp_path / "rules.toml"
    path.write_text(text)
    return path


def test_a_file_without_rules_objects_to_nothing(tmp_path):
    assert load_rules(write(tmp_path, "")) == ()


@pytest.mark.parametrize(
    ("test", "value", "holds"),
    [
        ("at_least = 2.5", "2.5", True), ("at_least = 2.5", "2.49", False), ("at_least = 2.5", "many", False),
        ("at_most = 3", "3", True), ("matches = 'fog.*'", "Foggy", True), ("matches = 'fog'", "foggy", False),
        ("any_of = [1, 2]", "2", True), ("any_of = ['a']", " A ", True),
    ],
)  # fmt: skip
def test_each_kind_of_test(tmp_path, test, value, holds):
    rules = load_rules(write(tmp_path, f"[[rule]]\nfield = 'header.X'\n{test}\nreason = 'saw {{value}}'"))
    assert (find_objection(rules, {}, {"X": value}) is not None) == holds


GOOD = "field = 'exposure_s'\nat_most = 1\nreason = 'short'\n"


@pytest.mark.parametrize(
    "text",
    [
        "[[rule]", "rule = 3", "rule = ['x']", "rule = 'text'", "[rule]\n" + GOOD, "[[rule]]\n",
        "[[rule]]\nfield = 'exposure_s'\nreason = 'r'", "[[rule]]\nfield = 'exposure_s'\nat_most = 1",
        "[[rule]]\nat_most = 1\nreason = 'r'", "[[rule]]\n" + GOOD + "at_least = 2", "[[rule]]\n" + GOOD + "typo = 2",
        "[[rule]]\nfield = 'exposure_s'\nat_most = 'much'\nreason = 'r'",
        "[[rule]]\nfield = 'exposure_s'\nat_most = nan\nreason = 'r'",
        "[[rule]]\nfield = 'exposure_s'\nat_most = [1]\nreason = 'r'",
        "[[rule]]\nfield = 'image_type'\nany_of = 5\nreason = 'r'",
        "[[rule]]\nfield = 'image_type'\nany_of = 'bias'\nreason = 'r'",
        "[[rule]]\nfield = 'image_type'\nmatches = '('\nreason = 'r'",
        "[[rule]]\nfield = 'exposure_s'\nat_most = 1\nreason = 'it is {valeu}'",
        "[[rule]]\nfield = 'exposure_s'\nat_most = 1\nreason = 'it is {value'",
        "[[rule]]\nfield = 'exposure_s'\nat_most = 1\nreason = 'it is {value.__class__.__mro__}'",
        "[[rule]]\nfield = 'header.X'\nat_most = 1\nreason = 'it is {value:.1f}'",
        "[[rule]]\nfield = 'exposure'\nat_most = 1\nreason = 'no such column'",
        "[[rule]]\nfield = 7\nat_most = 1\nreason = 'r'", "[[rules]]\n" + GOOD, "version = 1\n[[rule]]\n" + GOOD,
    ],
)  # fmt: skip
def test_a_wrong_file_is_told_in_one_line_that_names_it(tmp_path, text):
    with pytest.raises(UsageError) as caught:
        load_rules(write(tmp_path, text))
    assert "rules.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "key", "wrong"),
    [
        ("field = 7\nat_most = 1\nreason = 'r'", "field", "7"),
        ("field = 'header.'\nat_most = 1\nreason = 'r'", "field", "header."),
        ("field = 'exposure'\nat_most = 1\nreason = 'r'", "field", "exposure"),
        ("field = 'stars'\nat_most = true\nreason = 'r'", "at_most", "number"),
        ("field = 'stars'\nat_most = '3'\nreason = 'r'", "at_most", "number"),
        ("field = 'stars'\nat_least = inf\nreason = 'r'", "at_least", "finite"),
        (f"field = 'stars'\nat_least = 1{'0' * 400}\nreason = 'r'", "at_least", "finite"),
        ("field = 'object'\nany_of = []\nreason = 'r'", "any_of", "empty"),
        ("field = 'object'\nany_of = [['bias']]\nreason = 'r'", "any_of", "bias"),
        ("field = 'object'\nany_of = [true]\nreason = 'r'", "any_of", "True"),
        ("field = 'object'\nmatches = 5\nreason = 'r'", "matches", "text"),
        ("field = 'object'\nmatches = '['\nreason = 'r'", "matches", "'['"),
        ("field = 'object'\nmatches = 'a{99999999999}'\nreason = 'r'", "matches", "too large"),
        (f"field = 'object'\nmatches = '{'(' * 3000}{')' * 3000}'\nreason = 'r'", "matches", "deep"),
        ("field = 'object'\nmatches = 'x'\nreason = 7", "reason", "text"),
        ("field = 'object'\nmatches = 'x'\nreason = ' '", "reason", "empty"),
        ('field = "object"\nmatches = "x"\nreason = """two\nlines"""', "reason", "one line"),
        ("field = 'object'\nmatches = 'x'\nreason = 'is {value:.1%}'", "reason", ".1%"),
        ("field = 'object'\nmatches = 'x'\nreason = 'is {value:{value.foo}}'", "reason", "value.foo"),
        ("field = 'object'\nmatches = 'x'\nreason = 'is {value:>999999999999}'", "reason", "999999999999"),
        ("field = 'object'\nmatches = 'x'\nreason = 'is {}'", "reason", "only {value}"),
        ("field = 'object'\nmatches = 'x'", "reason", "missing"),
        ("matches = 'x'\nreason = 'r'", "field", "missing"),
        ("field = 'object'\nreason = 'r'", "any_of", "missing"),
        ("field = 'object'\nmatches = 'x'\nany_of = ['x']\nreason = 'r'", "any_of", "one test"),
        ("field = 'object'\nmatch = 'x'\nmatches = 'x'\nreason = 'r'", "match", "unknown"),
    ],
)
def test_a_wrong_rule_is_told_in_one_line_with_its_number_its_key_and_what_is_wrong(tmp_path, rule, key, wrong):
    with pytest.raises(UsageError) as caught:
        load_rules(write(tmp_path, f"[[rule]]\n{GOOD}\n[[rule]]\n{rule}\n"))
    message = str(caught.value)
    assert "rules.toml, rule 2, " in message
    assert key in message.split("rule 2, ")[1].split(":", maxsplit=1)[0]
    assert wrong in message
    assert "\n" not in message
    assert len(message) < 500


def test_a_number_that_a_reason_shows_may_be_whole(tmp_path):
    text = "[[rule]]\nfield = 'stars'\nat_most = 3\nreason = 'only {value:.0f} stars'"
    assert find_objection(load_rules(write(tmp_path, text)), {"stars": 2}, {}) == "only 2 stars"


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing.toml", tmp_path / "binary.toml", tmp_path):
        with pytest.raises(UsageError, match="eligibility rules"):
            load_rules(path)
