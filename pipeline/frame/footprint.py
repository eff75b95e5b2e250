"""The celestial WCS of an image, read at its centre and corners from no more cards than it takes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, Wcsprm
from numpy.typing import NDArray

from pipeline.frame.angles import is_number
from pipeline.frame.cards import write_card

_NEEDED = re.compile(r"(?:CRVAL|CRPIX|CDELT|CROTA)[12]|(?:CD|PC)[12]_[12]|PV[12]_\d{1,2}|LONPOLE|LATPOLE|EQUINOX")
_SIP = re.compile(r"(?:A|B)_(?:ORDER|\d_\d)")
_SCALE = re.compile(r"CDELT[12]|(?:CD|PC)[12]_[12]")
_SYSTEMS = {"RA": "", "GLON": "GALACTIC"}


@dataclass(frozen=True, slots=True)
class Footprint:
    """Centre of an image in degrees, in its own system (`system` is empty for equatorial), and its half diagonal."""

    lon: float
    lat: float
    system: str
    radius: float | None


def find_footprint(header: Mapping[str, object], shape: tuple[int, int], notes: list[str]) -> Footprint | None:
    """Find where the image lies on the sky by its celestial WCS.

    Linear, projected and PV (TPV) terms go straight to wcslib, SIP through astropy. No CTYPE, no work.

    Args:
        header: the merged header.
        shape: (height, width) of the image.
        notes: gains a sentence where there is a WCS that gives no position.

    Returns:
        None where there is no celestial WCS, or where it gives no position at the image centre.
    """
    types = [str(header.get(f"CTYPE{axis}", "")).strip().upper() for axis in (1, 2)]
    names = {text[:4].rstrip("-") for text in types}
    if not (names & {"RA", "GLON"} and names & {"DEC", "GLAT"}):
        return None
    numbers = {key: float(value) for key, value in header.items() if _NEEDED.fullmatch(key) and is_number(value)}  # type: ignore[arg-type]
    if not {"CRVAL1", "CRVAL2"} <= numbers.keys() or not any(map(_SCALE.fullmatch, numbers)):
        notes.append("The header names a celestial WCS but not its reference point or scale.")
        return None
    if _is_singular(numbers):
        notes.append("The WCS cannot be used (its CD matrix has no inverse).")
        return None
    height, width = shape
    middle = ((width - 1) / 2, (height - 1) / 2)
    beside = [(middle[0] + 1, middle[1]), (middle[0], middle[1] + 1)]
    corners = [(x, y) for x in (-0.5, width - 0.5) for y in (-0.5, height - 0.5)]
    try:
        places = _transform(np.array([middle, *beside, *corners]), types, numbers, header)
    except Exception as error:  # noqa: BLE001 - wcslib's faults come as many kinds, none of which may lose the frame
        notes.append(f"The WCS cannot be used ({type(error).__name__}).")
        return None
    return _summarise(places, shape, _SYSTEMS["GLON" if "GLON" in names else "RA"], notes)


def _is_singular(numbers: Mapping[str, float]) -> bool:
    """Say whether a CD matrix is given that has no inverse; wcslib would put another in its place without a word."""
    a, b, c, d = (numbers.get(f"CD{row}_{column}", 0.0) for row in (1, 2) for column in (1, 2))
    return any(key.startswith("CD") and "_" in key for key in numbers) and a * d - b * c == 0


def _transform(
    pixels: NDArray[np.float64], types: list[str], numbers: dict[str, float], header: Mapping[str, object]
) -> NDArray[np.float64]:
    """Give longitude and latitude in degrees for 0-based pixels; shape (n, 2)."""
    cards: dict[str, str | float] = {f"CTYPE{axis}": text for axis, text in enumerate(types, start=1)}
    cards |= {f"CUNIT{axis}": unit for axis in (1, 2) if (unit := str(header.get(f"CUNIT{axis}", "")).strip())}
    cards |= numbers
    sip = all(text.endswith("-SIP") for text in types)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if sip:
            terms = {key: value for key, value in header.items() if _SIP.fullmatch(key) and is_number(value)}
            wcs = WCS(fits.Header([*cards.items(), *terms.items()]))
            order = wcs.wcs
            places = wcs.all_pix2world(pixels, 0)
        else:
            order = Wcsprm("".join(write_card(*card) for card in cards.items()).encode("ascii", "replace"))
            places = order.p2s(pixels, 0)["world"]
    return np.asarray(places)[:, [order.lng, order.lat]]


def _summarise(places: NDArray[np.float64], shape: tuple[int, int], system: str, notes: list[str]) -> Footprint | None:
    lon, lat = places[0]
    if not (np.isfinite(lon) and np.isfinite(lat) and abs(lat) <= 90):  # noqa: PLR2004 - a latitude
        notes.append("The WCS gives no position at the image centre.")
        return None
    apart = _separate(places[1:], places[0])
    reach = float(np.max(apart[2:]))
    if not np.isfinite(reach):
        # corners off the sky, as in an all-sky image: the scale at the centre bounds what is on it
        reach = min(180.0, float(np.max(apart[:2])) * float(np.hypot(*shape)) / 2)
    return Footprint(float(lon) % 360, float(lat), system, reach if np.isfinite(reach) else None)


def _separate(places: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give angular separations in degrees by the haversine formula, which keeps its digits at small angles."""
    lon, lat = np.radians(places).T
    lon0, lat0 = np.radians(centre)
    half = np.sin((lat - lat0) / 2) ** 2 + np.cos(lat) * np.cos(lat0) * np.sin((lon - lon0) / 2) ** 2
    return np.asarray(np.degrees(2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))))
