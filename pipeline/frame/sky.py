"""Where a frame looked: ICRS position from its WCS or its keywords, and the HEALPix cells it touches."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import numpy as np
from astropy import units
from astropy.coordinates import FK4, FK5, ICRS, SkyCoord, UnitSphericalRepresentation
from astropy.time import Time
from astropy_healpix.core import healpix_cone_search, lonlat_to_healpix

from pipeline.frame.aliases import Aliases
from pipeline.frame.angles import parse_decimal, parse_sexagesimal
from pipeline.frame.footprint import find_footprint
from pipeline.frame.types import Pointing, SkyRules

_TURN_HOURS = 24
_TURN = 360
_POLE = 90
_CELL_DEGREES = 58.6
_CELLS_ACROSS = 8
_RINGS, _PLACES_AROUND = 4, 16
_J2000 = 2000.0
_B1950 = 1950.0
_FIRST_EQUINOX = 1800.0
_LAST_EQUINOX = 2200.0
_SAME_EQUINOX = 0.5
_NOWHERE = Pointing(ra=None, dec=None, source="none", radius=None, zone=None, zones=())


def find_pointing(
    header: Mapping[str, object], shape: tuple[int, int], rules: SkyRules, aliases: Aliases, notes: list[str]
) -> Pointing:
    """Find where a frame looked.

    First the celestial WCS, taken at the image centre; without one (no CTYPE, or one that gives no position there) the
    position keywords of the alias table. A sexagesimal right ascension is hours unless it names degrees itself, its
    first field is 24 or more, or the instrument's table says degrees; a decimal one is degrees, as the FITS standard
    has it, unless the instrument's table says hours. Positions of another equinox are precessed to ICRS.

    Args:
        header: the merged header.
        shape: (height, width) of the image.
        rules: HEALPix order and radii.
        aliases: the alias table for this instrument.
        notes: gains a sentence for each thing that could not be used.
    """
    footprint = find_footprint(header, shape, notes)
    if footprint is not None:
        system = footprint.system or _name_system(header)
        position = _to_icrs(footprint.lon, footprint.lat, system, header, notes)
        return _NOWHERE if position is None else _place(*position, "wcs", footprint.radius, rules)
    for ra_keyword, dec_keyword in aliases.position:
        read = _read_pair(header.get(ra_keyword), header.get(dec_keyword), aliases, (ra_keyword, dec_keyword), notes)
        if read is not None:
            ra, dec, source = read
            position = _to_icrs(ra, dec, _name_system(header), header, notes)
            return _NOWHERE if position is None else _place(*position, source, None, rules)
    return _NOWHERE


def _place(ra: float, dec: float, source: str, radius: float | None, rules: SkyRules) -> Pointing:
    # the remainder of a tiny negative number rounds to the full turn itself
    ra = ra % _TURN % _TURN
    reach = (rules.default_radius if radius is None else radius) + rules.margin
    zone = int(lonlat_to_healpix(ra * units.deg, dec * units.deg, 2**rules.order, order="nested"))
    reach = min(reach, 180.0)
    # The search of astropy_healpix misses neighbours of a centre that lies on a border between cells.
    zones = {zone, *_search_cone(ra, dec, reach, rules.order), *_search_rings(ra, dec, reach, rules.order)}
    return Pointing(ra, dec, source, radius, zone, tuple(sorted(zones)))


def _search_cone(ra: float, dec: float, reach: float, order: int) -> list[int]:
    """Find all nested cells a cone touches, and for wide cones some beside it.

    A cone many cells wide is searched in coarser cells, whose children are then taken whole: the search of
    astropy_healpix takes seconds for a whole sky of small cells.
    """
    coarse = min(order, max(0, int(math.log2(_CELLS_ACROSS * _CELL_DEGREES / max(reach, 1e-6)))))
    touched = healpix_cone_search(ra * units.deg, dec * units.deg, reach * units.deg, 2**coarse, order="nested")
    children = 4 ** (order - coarse)
    cells = np.asarray(touched, np.int64)[:, None] * children + np.arange(children)
    return [int(cell) for cell in cells.ravel()]


def _search_rings(ra: float, dec: float, reach: float, order: int) -> list[int]:
    """Cells at places strewn over a cone: where cells are larger than it, that is all it touches."""
    turn = np.linspace(0, 2 * np.pi, _PLACES_AROUND, endpoint=False)[:, None]
    apart = np.radians(reach) * np.linspace(0, 1, _RINGS + 1)[1:]
    lat = math.radians(dec)
    sine = math.sin(lat) * np.cos(apart) + math.cos(lat) * np.sin(apart) * np.cos(turn)
    lats = np.arcsin(np.clip(sine, -1, 1))
    across = np.sin(turn) * np.sin(apart) * math.cos(lat)
    lons = math.radians(ra) + np.arctan2(across, np.cos(apart) - math.sin(lat) * sine)
    cells = lonlat_to_healpix(lons.ravel() * units.rad, lats.ravel() * units.rad, 2**order, order="nested")
    return [int(cell) for cell in np.unique(cells)]


def _read_pair(
    ra: object, dec: object, aliases: Aliases, keywords: tuple[str, str], notes: list[str]
) -> tuple[float, float, str] | None:
    if any(value is None or str(value).strip().lower() in aliases.missing for value in (ra, dec)):
        return None
    right, declination = _read_ra(ra, aliases), _read_dec(dec)
    if right is None or declination is None:
        keyword, value = (keywords[0], ra) if right is None else (keywords[1], dec)
        notes.append(f"{keyword} {value!r} is not a position on the sky.")
        return None
    degrees, how = right
    name = "RA" if keywords == ("RA", "DEC") else keywords[0]
    return degrees, declination, f"{name}/{keywords[1]} {how}" if "decimal" in how else f"{name} {how}"


def _read_ra(value: object, aliases: Aliases) -> tuple[float, str] | None:
    """Read a right ascension into degrees from 0 to 360; also say how it was read."""
    decimal = parse_decimal(value)
    if decimal is not None:
        hours = aliases.ra_decimal_hours
        degrees, how = (decimal * 15, "decimal hours") if hours else (decimal, "decimal degrees")
    else:
        parsed = parse_sexagesimal(value)
        if parsed is None:
            return None
        number, unit = parsed
        in_degrees = unit == "d" or (not unit and (aliases.ra_sexagesimal_degrees or number >= _TURN_HOURS))
        degrees, how = (number, "sexagesimal degrees") if in_degrees else (number * 15, "sexagesimal hours")
    return (degrees, how) if 0 <= degrees <= _TURN else None


def _read_dec(value: object) -> float | None:
    decimal = parse_decimal(value)
    if decimal is None:
        parsed = parse_sexagesimal(value)
        decimal = None if parsed is None or parsed[1] == "h" else parsed[0]
    return decimal if decimal is not None and abs(decimal) <= _POLE else None


def _name_system(header: Mapping[str, object]) -> str:
    """Name the reference system of equatorial coordinates (FITS 4.0, section 8.3, RADESYS)."""
    for keyword in ("RADESYS", "RADECSYS", "RADESYSA"):
        text = str(header.get(keyword, "")).strip().upper()
        if text in ("ICRS", "FK5", "FK4", "FK4-NO-E"):
            return text
    equinox = _read_equinox(header)
    return "ICRS" if equinox is None else "FK5" if equinox >= 1984 else "FK4"  # noqa: PLR2004 - FITS 4.0, table 24


def _read_equinox(header: Mapping[str, object]) -> float | None:
    """Read EQUINOX; the old EPOCH only where it can mean nothing else, since many write the date of exposure there."""
    year = _read_year(header.get("EQUINOX"))
    if year is not None:
        return year if _FIRST_EQUINOX <= year <= _LAST_EQUINOX else None
    epoch = _read_year(header.get("EPOCH"))
    return epoch if epoch in (_B1950, _J2000) else None


def _read_year(value: object) -> float | None:
    return parse_decimal(value.strip().lstrip("JBjb") if isinstance(value, str) else value)


def _to_icrs(
    lon: float, lat: float, system: str, header: Mapping[str, object], notes: list[str]
) -> tuple[float, float] | None:
    equinox = _read_equinox(header)
    if system == "ICRS" or (system == "FK5" and (equinox is None or abs(equinox - _J2000) < _SAME_EQUINOX)):
        # FK5 at J2000 and ICRS differ by 0.02 arcsec: nothing to a zone
        return lon, lat
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _precess(lon, lat, system, equinox)
    except Exception as error:  # noqa: BLE001 - astropy raises many kinds for an equinox that makes no sense
        notes.append(f"The position could not be brought from {system} {equinox} to ICRS ({type(error).__name__}).")
        return None


def _precess(lon: float, lat: float, system: str, equinox: float | None) -> tuple[float, float]:
    place = UnitSphericalRepresentation(lon * units.deg, lat * units.deg)
    if system == "GALACTIC":
        position = SkyCoord(place, frame="galactic").icrs
    elif system == "FK5":
        position = FK5(place, equinox=Time(equinox, format="jyear")).transform_to(ICRS())
    else:
        position = FK4(place, equinox=Time(equinox or _B1950, format="byear")).transform_to(ICRS())
    return float(position.ra.deg), float(position.dec.deg)
