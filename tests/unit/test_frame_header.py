# ruff: noqa: DTZ001 - times are naive UTC throughout, as the tables have them
from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.frame.aliases import load_aliases, parse_aliases
from pipeline.frame.fits import decode
from pipeline.frame.header import describe
from pipeline.frame.sky import SkyRules
from pipeline.frame.types import FrameRow
from tests.unit.frame_bytes import LIMITS, make_frame, write_image

RULES = SkyRules()


def row(**cards: object) -> FrameRow:
    return describe(make_frame(**cards), RULES)


def test_a_full_header_fills_the_row() -> None:
    payload = write_image(
        np.full((8, 10), 7, np.int16), instrume=" cam1 ", telescop="T1", filter="r", exptime=30, object="M 31",
        obstype="EXPOSE", date_obs="2024-03-01T05:06:07", ra=10.5, dec=41.0,
    )  # fmt: skip
    found = describe(decode(payload, name="a.fits", limits=LIMITS), RULES)
    typed = (found.instrument, found.telescope, found.filter, found.exposure_s, found.object, found.image_type)
    assert typed == ("cam1", "T1", "r", 30.0, "M 31", "EXPOSE")
    assert (found.obs_time, found.obs_time_source) == (datetime(2024, 3, 1, 5, 6, 7), "DATE-OBS")
    assert (found.width, found.height, found.hdu, found.bitpix, found.name) == (10, 8, 0, 16, "a.fits")
    assert (found.pointing.ra, found.night.isoformat(), found.notes) == (10.5, "2024-02-29", ())
    assert found.quality.background == 7


def test_the_header_is_kept_as_text_card_by_card() -> None:
    found = row(simple=True, flag=False, exptime=60.0, count=3, text=" as written", empty="")
    assert found.header == {
        "SIMPLE": "T", "FLAG": "F", "EXPTIME": "60.0", "COUNT": "3", "TEXT": " as written", "EMPTY": "",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "  ", "UNKNOWN", "n/a", "NaN", "None", "undefined"])
def test_texts_that_stand_for_nothing_are_none(text) -> None:
    assert row(instrume=text, object=text, exptime=text, ra=text, dec=text).instrument is None
    assert row(instrume=text, camera="backup").instrument == "backup"


@pytest.mark.parametrize(
    ("cards", "name"),
    [
        ({"filter": "Clear"}, "Clear"),
        ({"filter": "air"}, "air"),
        ({"filter": "clear", "filter2": "V"}, "V"),
        ({"filter1": "air", "filter2": "ip", "filter3": "air"}, "ip"),
        ({"filter1": "air", "filter2": "Clear"}, "air"),
        ({"filter1": "V", "filter2": "ND2"}, "V+ND2"),
        ({"filter1": "NOTPRESENT", "filter2": "B"}, "B"),
        ({"band": "z", "filter": "z DECam SDSS c0004"}, "z DECam SDSS c0004"),
        ({"band": "z"}, "z"),
        ({"filter": 3}, "3"),
        ({"filter": True}, None),
        ({}, None),
    ],
)
def test_the_filter_is_what_is_in_the_beam(cards, name) -> None:
    assert row(**cards).filter == name


@pytest.mark.parametrize("keyword", ["EXPTIME", "EXPOSURE", "EXPOSED", "ITIME"])
def test_the_exposure_by_each_name(keyword) -> None:
    assert row(**{keyword: "12.5"}).exposure_s == 12.5


@pytest.mark.parametrize("value", ["long", -3.0, float("inf"), True])
def test_an_exposure_that_is_none_is_noted(value) -> None:
    found = row(exptime=value)
    assert found.exposure_s is None
    assert [note for note in found.notes if "xposure" in note]
    assert all(note.endswith(".") for note in found.notes)


def test_a_bad_exposure_does_not_hide_a_good_one() -> None:
    found = row(exptime="long", itime=4)
    assert found.exposure_s == 4
    assert "EXPTIME 'long' is not a number, so it gives no exposure." in found.notes


def test_no_date_is_null_with_the_reason_as_a_note() -> None:
    found = row(date_obs="26/07/102")
    assert (found.obs_time, found.night) == (None, None)
    assert found.obs_time_source == "DATE-OBS '26/07/102' is not a date"
    assert "The observation time is not known: DATE-OBS '26/07/102' is not a date." in found.notes


def test_a_cube_and_an_empty_frame_are_noted() -> None:
    cube = describe(decode(write_image(np.ones((3, 4, 5), np.int16)), name="x", limits=LIMITS), RULES)
    assert "The image is a cube of 5 x 4 x 3 pixels; its first plane was taken." in cube.notes
    flat = describe(decode(write_image(np.ones((1, 4, 5), np.int16)), name="x", limits=LIMITS), RULES)
    assert not [note for note in flat.notes if "cube" in note]
    assert "The frame has no valid pixel." in describe(make_frame(np.full((3, 3), np.nan)), RULES).notes


def test_the_saturation_level_of_the_header_counts() -> None:
    pixels = np.arange(100.0).reshape(10, 10)
    assert describe(make_frame(pixels, saturate=90), RULES).quality.saturated_fraction == 0.1
    assert describe(make_frame(pixels), RULES).quality.saturated_fraction == 0


def test_an_instrument_s_table_replaces_the_default_lists() -> None:
    table = parse_aliases(
        """
        [default]
        filter = ["FILTER"]
        missing = [""]
        [[instrument]]
        match = { INSTRUME = "odd*", TELESCOP = ["T1", "T2"] }
        filter = ["GLASS"]
        """
    )
    cards = {"filter": "wrong", "glass": "right", "instrume": "OddCam 2"}
    assert describe(make_frame(**cards, telescop="t2"), RULES, table).filter == "right"
    assert describe(make_frame(**cards, telescop="T3"), RULES, table).filter == "wrong"
    assert describe(make_frame(**cards), RULES, table).filter == "wrong"


def test_a_table_with_an_unknown_field_or_no_toml_is_refused() -> None:
    with pytest.raises(UsageError, match="colour"):
        parse_aliases("[default]\ncolour = ['FILTER']")
    with pytest.raises(UsageError, match="not TOML"):
        parse_aliases("[default")


def test_the_table_of_the_package_is_read_once_and_never_takes_date_for_a_time() -> None:
    table = load_aliases()
    assert table is load_aliases()
    for aliases in (table.default, *(aliases for _, aliases in table.instruments)):
        assert "DATE" not in (*aliases.date, *aliases.time, *aliases.mjd)
        assert aliases.missing >= {"", "unknown", "n/a", "nan"}
