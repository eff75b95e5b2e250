"""When a frame was taken: UTC from DATE-OBS and its kin, never from DATE, never a default."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from datetime import date, datetime, timedelta

from astropy.time import Time
from astropy.utils import iers

from pipeline.frame.aliases import Aliases
from pipeline.frame.angles import parse_decimal, parse_degrees

FIRST_YEAR = 1850
LAST_YEAR = 2200

_DATE = re.compile(r"(\d{4})-(\d{2})-(\d{2})")
_OLD_DATE = re.compile(r"(\d{2})/(\d{2})/(\d{2})")
_CLOCK = re.compile(r"(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d*))?)?")
_ZONE = re.compile(r"(.*?)\s*(Z|[+-]\d{2}(?::?\d{2})?)", re.IGNORECASE)
_MJD_ZERO = datetime(1858, 11, 17)  # noqa: DTZ001 - naive UTC throughout, as the table has it
_SAME_AS_UTC = frozenset({"", "UTC", "UT", "UT1", "GMT", "Z"})
_SCALES = {"TAI": "tai", "IAT": "tai", "TT": "tt", "TDT": "tt", "ET": "tt", "TDB": "tdb", "TCG": "tcg", "TCB": "tcb"}
_MAX_OFFSET = timedelta(hours=15)
_LEAP = 60


def find_obs_time(header: Mapping[str, object], aliases: Aliases) -> tuple[datetime | None, str]:
    """Find when the exposure was taken.

    In this order: the date keywords (ISO 8601 as in FITS 4.0, section 9.1.1, with `Z` or a UTC offset if there is
    one; the old `DD/MM/YY`, which the standard keeps for 19YY); a date without a time of day is completed by a time
    keyword; then the MJD keywords. A TIMESYS other than UTC is converted (UT1 counts as UTC: they never differ by more
    than 0.9 s).
    A date with no time of day anywhere is midnight, and the source says so.

    Returns:
        Naive UTC with microseconds, and the rule that gave it; or None and the reason, without a full stop.
    """
    faults: list[str] = []
    found = _from_date(header, aliases, faults)
    if found is None or found[1].endswith("day only"):
        found = _from_mjd(header, aliases, faults) or found
    if found is None:
        return None, "; ".join(faults) or f"the header has no {' or '.join((*aliases.date, *aliases.mjd))}"
    moment, source = found
    if faults:
        source += f", because {'; '.join(faults)}"
    return _to_utc(moment, source, header)


def _from_date(header: Mapping[str, object], aliases: Aliases, faults: list[str]) -> tuple[datetime, str] | None:
    for keyword in aliases.date:
        value = header.get(keyword)
        text = str(value).strip()
        if value is None or text.lower() in aliases.missing:
            continue
        try:
            moment, said, has_time = _parse_date(text)
        except (ValueError, OverflowError):
            faults.append(f"{keyword} {value!r} is not a date")
            continue
        if not FIRST_YEAR <= moment.year <= LAST_YEAR:
            faults.append(f"{keyword} {value!r} is outside the years {FIRST_YEAR} to {LAST_YEAR}")
            continue
        source = f"{keyword}{said}"
        return (moment, source) if has_time else _add_clock(moment, source, header, aliases, faults)
    return None


def _parse_date(text: str) -> tuple[datetime, str, bool]:
    """Parse date and time; also say what was special, and whether there was a time of day."""
    old = _OLD_DATE.fullmatch(text)
    if old is not None:
        day, month, year = (int(part) for part in old.groups())
        return _make_day(1900 + year, month, day), " (DD/MM/YY)", False
    match = _DATE.match(text)
    if match is None:
        raise ValueError(text)
    moment = _make_day(*(int(part) for part in match.groups()))
    rest = text[match.end() :]
    if not rest:
        return moment, "", False
    if rest[0] not in "T ":
        raise ValueError(text)
    clock, offset, said = _split_zone(rest[1:])
    return moment + _parse_clock(clock) - offset, said, True


def _make_day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day)  # noqa: DTZ001 - naive UTC throughout


def _split_zone(text: str) -> tuple[str, timedelta, str]:
    match = _ZONE.fullmatch(text)
    if match is None:
        return text, timedelta(0), ""
    clock, zone = match.groups()
    if zone in "Zz":
        return clock, timedelta(0), ""
    digits = zone[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    if offset > _MAX_OFFSET:
        raise ValueError(text)
    return clock, -offset if zone[0] == "-" else offset, f" with UTC offset {zone}"


def _parse_clock(text: str) -> timedelta:
    match = _CLOCK.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    hours, minutes, seconds = int(match[1]), int(match[2]), int(match[3] or 0)
    micro = round(float(f"0.{match[4] or 0}") * 1e6)
    # second 60 is a leap second: naive datetimes have none, it becomes the first of the next minute
    if hours > 23 or minutes > 59 or seconds > _LEAP:  # noqa: PLR2004 - a clock
        raise ValueError(text)
    return timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=micro)


def _add_clock(
    day: datetime, source: str, header: Mapping[str, object], aliases: Aliases, faults: list[str]
) -> tuple[datetime, str]:
    for keyword in aliases.time:
        value = header.get(keyword)
        if not isinstance(value, str) or value.strip().lower() in aliases.missing:
            continue
        try:
            clock, offset, _ = _split_zone(value.strip())
            return day + _parse_clock(clock) - offset, f"{source} with {keyword}"
        except ValueError:
            faults.append(f"{keyword} {value!r} is not a time of day")
    return day, f"{source}, day only"


def _from_mjd(header: Mapping[str, object], aliases: Aliases, faults: list[str]) -> tuple[datetime, str] | None:
    for keyword in aliases.mjd:
        value = header.get(keyword)
        if value is None or (isinstance(value, str) and value.strip().lower() in aliases.missing):
            continue
        try:
            days = math.nan if isinstance(value, bool) else float(str(value))
            moment = _MJD_ZERO + timedelta(days=days)
        except (ValueError, OverflowError):
            faults.append(f"{keyword} {value!r} is not a Modified Julian Date")
            continue
        if FIRST_YEAR <= moment.year <= LAST_YEAR:
            return moment, keyword
        faults.append(f"{keyword} {value!r} is outside the years {FIRST_YEAR} to {LAST_YEAR}")
    return None


def _to_utc(moment: datetime, source: str, header: Mapping[str, object]) -> tuple[datetime | None, str]:
    # only the first word counts: observatories write "UTC approximate", the standard allows "TT(BIPM)"
    system = (re.findall(r"[A-Z0-9]+", str(header.get("TIMESYS", "")).upper()) or [""])[0]
    if system in _SAME_AS_UTC or " with UTC offset" in source:
        return moment, source
    if system not in _SCALES:
        return None, f"TIMESYS {system!r} is not a time scale known here"
    # no clock and no network: the leap seconds that come with astropy, never a download
    with warnings.catch_warnings(), iers.conf.set_temp("auto_download", value=False):
        warnings.simplefilter("ignore")
        utc = Time(moment, scale=_SCALES[system]).utc
        try:
            return utc.to_datetime(), f"{source}, converted from {system}"
        except ValueError:
            return None, f"{source} in {system} falls in a leap second, which no timestamp can hold"


def find_night(obs_time: datetime, header: Mapping[str, object], aliases: Aliases) -> date:
    """Name the night an exposure belongs to: the local date at its evening, counted from noon to noon.

    Local is mean solar time at the site's longitude where the header has one (OBSGEO-X and -Y, else the longitude
    keywords, east positive unless the alias table says that the instrument counts west); else UTC, noon to noon.
    """
    longitude = _find_longitude(header, aliases)
    local = obs_time + timedelta(hours=0 if longitude is None else longitude / 15)
    return (local - timedelta(hours=12)).date()


def _find_longitude(header: Mapping[str, object], aliases: Aliases) -> float | None:
    """Find the site's longitude in degrees, east positive, from -180 to 180."""
    x, y = parse_decimal(header.get("OBSGEO-X")), parse_decimal(header.get("OBSGEO-Y"))
    if x and y:
        return math.degrees(math.atan2(y, x))
    for keyword in aliases.longitude:
        degrees = parse_degrees(header.get(keyword))
        if degrees is not None and abs(degrees) <= 360:  # noqa: PLR2004 - a full turn
            east = -degrees if aliases.west_longitude and keyword != "OBSGEO-L" else degrees
            return (east + 180) % 360 - 180
    return None
