# ruff: noqa: DTZ001 - times are naive UTC throughout, as the tables have them
from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frame.aliases import load_aliases
from pipeline.frame.obstime import find_night, find_obs_time

DEFAULT = load_aliases().default


def find(**cards: object) -> tuple[datetime | None, str]:
    return find_obs_time({k.upper().replace("__", "_").replace("_", "-"): v for k, v in cards.items()}, DEFAULT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-03-01T05:06:07", "2024-03-01T05:06:07"),
        ("2024-03-01T05:06:07.123456789", "2024-03-01T05:06:07.123457"),
        ("2024-03-01T05:06:07.9999999", "2024-03-01T05:06:08"),
        (" 2024-03-01T05:06:07Z ", "2024-03-01T05:06:07"),
        ("2024-03-01T05:06", "2024-03-01T05:06:00"),
        ("2024-03-01 05:06:07.5", "2024-03-01T05:06:07.5"),
        ("2022-02-20T19:29:31.239-0700", "2022-02-21T02:29:31.239"),
        ("2022-02-20T19:29:31+02:00", "2022-02-20T17:29:31"),
        ("2022-02-20T19:29:31-07", "2022-02-21T02:29:31"),
        ("2016-12-31T23:59:60.5", "2017-01-01T00:00:00.5"),
        ("1850-01-01T00:00:00", "1850-01-01T00:00:00"),
    ],
)
def test_dates_with_a_time_of_day(text, expected) -> None:
    moment, source = find(date_obs=text)
    assert moment == datetime.fromisoformat(expected)
    assert moment.tzinfo is None
    assert source.startswith("DATE-OBS")


@given(
    moment=st.datetimes(datetime(1851, 1, 1), datetime(2199, 12, 1)),
    minutes=st.one_of(st.none(), st.integers(-14 * 60, 14 * 60)),
)
def test_any_moment_comes_back_to_the_microsecond_from_any_zone(moment, minutes) -> None:
    zone = UTC if minutes is None else timezone(timedelta(minutes=minutes))
    local = moment.replace(tzinfo=UTC).astimezone(zone)
    text = local.isoformat()[:26].replace("+", "").ljust(26, "0") if local.microsecond else local.isoformat()[:19]
    offset = "" if minutes is None else local.strftime("%z")
    assert find(date_obs=text + offset)[0] == moment


@pytest.mark.parametrize(
    "text",
    [
        "26/07/102", "2024-13-01T00:00:00", "2024-02-30", "2024/03/01", "01/03/2024", "2024-03-01T25:00:00",
        "2024-03-01T05:60:00", "2024-03-01T05:06:61", "2024-03-01x05:06:07", "20240301", "yesterday", "32/01/99",
        "2024-03-01T05:06:07+99:00", "-2024-03-01", 2024, 20240301.5, True,
    ],
)  # fmt: skip
def test_what_is_no_date_is_null_and_named(text) -> None:
    moment, reason = find(date_obs=text)
    assert moment is None
    assert reason == f"DATE-OBS {text!r} is not a date"


@pytest.mark.parametrize("text", ["1849-12-31T23:59:59", "2201-01-01", "0001-01-01T00:00:00"])
def test_years_no_camera_has_seen_are_refused(text) -> None:
    assert find(date_obs=text) == (None, f"DATE-OBS {text!r} is outside the years 1850 to 2200")


def test_the_old_form_is_the_twentieth_century_only() -> None:
    moment, source = find(date_obs="26/07/02", time_obs="19:36:37")
    assert (moment, source) == (datetime(1902, 7, 26, 19, 36, 37), "DATE-OBS (DD/MM/YY) with TIME-OBS")


@pytest.mark.parametrize("keyword", ["TIME-OBS", "UTC-OBS", "UTSTART", "UT", "UTC"])
def test_a_date_is_completed_by_a_time_of_day(keyword) -> None:
    header = {"DATE-OBS": "2024-03-01", keyword: "05:06:07.25"}
    assert find_obs_time(header, DEFAULT) == (datetime(2024, 3, 1, 5, 6, 7, 250000), f"DATE-OBS with {keyword}")


def test_a_time_of_day_beside_a_full_date_changes_nothing() -> None:
    assert find(date_obs="2024-03-01T05:06:07", time_obs="11:11:11")[0] == datetime(2024, 3, 1, 5, 6, 7)


def test_a_date_alone_is_midnight_and_says_so_unless_mjd_knows_better() -> None:
    assert find(date_obs="2024-03-01") == (datetime(2024, 3, 1), "DATE-OBS, day only")
    assert find(date_obs="2024-03-01", mjd_obs=60370.5) == (datetime(2024, 3, 1, 12), "MJD-OBS")


def test_a_malformed_date_falls_back_to_mjd_and_says_so() -> None:
    moment, source = find(date_obs="26/07/102", mjd_obs=52481.8)
    assert moment == datetime(2002, 7, 26, 19, 12)
    assert source == "MJD-OBS, because DATE-OBS '26/07/102' is not a date"


def test_mjd_with_an_underscore_and_as_text() -> None:
    assert find_obs_time({"MJD_OBS": "51544.0"}, DEFAULT) == (datetime(2000, 1, 1), "MJD_OBS")
    assert find_obs_time({"DATE_OBS": "2000-01-01T00:00:01"}, DEFAULT)[0] == datetime(2000, 1, 1, 0, 0, 1)


@pytest.mark.parametrize("value", ["soon", float("nan"), float("inf"), 1e300, True, -1e9, 400000.0])
def test_an_mjd_that_is_none_is_null(value) -> None:
    moment, reason = find(mjd_obs=value)
    assert moment is None
    assert "MJD-OBS" in reason


def test_date_is_never_an_observation_time() -> None:
    moment, reason = find(date="2003-03-27T13:33:26", date_end="2003-03-27T13:33:26")
    assert moment is None
    assert reason == "the header has no DATE-OBS or DATE_OBS or MJD-OBS or MJD_OBS"


@pytest.mark.parametrize("text", ["", "UNKNOWN", "N/A", "NaN"])
def test_an_unknown_date_counts_as_missing(text) -> None:
    assert find(date_obs=text, mjd_obs=51544.0) == (datetime(2000, 1, 1), "MJD-OBS")


@pytest.mark.parametrize("scale", ["TAI", "TT", "TDB"])
def test_other_time_scales_are_converted(scale) -> None:
    moment, source = find(date_obs="2024-03-01T05:06:07", timesys=scale)
    expected = Time("2024-03-01T05:06:07", scale=scale.lower()).utc.to_datetime()
    assert moment == expected
    assert abs(moment - datetime(2024, 3, 1, 5, 6, 7)) > timedelta(seconds=36)
    assert source == f"DATE-OBS, converted from {scale}"


@pytest.mark.parametrize("scale", ["UTC", "UT", "UTC approximate", "utc", "UTC(NIST)", ""])
def test_utc_by_any_name_is_utc(scale) -> None:
    assert find(date_obs="2024-03-01T05:06:07", timesys=scale)[0] == datetime(2024, 3, 1, 5, 6, 7)


def test_an_unknown_time_scale_is_null_and_named() -> None:
    assert find(date_obs="2024-03-01T05:06:07", timesys="MARS") == (
        None,
        "TIMESYS 'MARS' is not a time scale known here",
    )


EVENING = datetime(2022, 2, 21, 2, 29, 31)


@pytest.mark.parametrize(
    ("header", "night"),
    [
        ({}, date(2022, 2, 20)),
        ({"SITELONG": -110.88}, date(2022, 2, 20)),
        ({"SITELONG": "-110 52 48"}, date(2022, 2, 20)),
        ({"SITELONG": 149.0}, date(2022, 2, 21)),
        ({"OBSGEO-X": -4680888.0, "OBSGEO-Y": 2805218.0}, date(2022, 2, 21)),
        ({"LONGITUD": "nowhere"}, date(2022, 2, 20)),
        ({"LONGITUD": 2000.0}, date(2022, 2, 20)),
    ],
)
def test_a_night_runs_from_noon_to_noon_at_the_site(header, night) -> None:
    assert find_night(EVENING, header, DEFAULT) == night


def test_one_night_has_one_date_before_and_after_midnight() -> None:
    site = {"SITELONG": -111.6}
    hours = [
        datetime(2022, 2, 21, 1),
        datetime(2022, 2, 21, 7),
        datetime(2022, 2, 21, 12, 30),
        datetime(2022, 2, 21, 19),
    ]
    assert [find_night(hour, site, DEFAULT) for hour in hours] == [date(2022, 2, 20)] * 4
    assert find_night(datetime(2022, 2, 21, 19, 30), site, DEFAULT) == date(2022, 2, 21)


def test_an_instrument_that_counts_west_is_known_by_its_table() -> None:
    header = {"TELESCOP": "Cecilia", "INSTRUME": "Main", "LONGITUD": 110.88}
    aliases = load_aliases().choose(header)
    late = datetime(2022, 2, 21, 19)
    assert find_night(late, header, aliases) == find_night(late, {"LONGITUD": -110.88}, DEFAULT) == date(2022, 2, 20)
    assert find_night(late, header, DEFAULT) == date(2022, 2, 21)
