"""Pixel places of detections -> right ascension and declination."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

Place = tuple[float | None, float | None]

_NUMBERS = re.compile(
    r"(?:CRVAL|CRPIX|CDELT|CROTA)[12]|(?:CD|PC)[12]_[12]|PV[12]_\d{1,2}|LONPOLE|LATPOLE|EQUINOX"
    r"|(?:A|B|AP|BP)_(?:ORDER|\d_\d)"
)
_TEXTS = re.compile(r"CTYPE[12]|CUNIT[12]|RADESYS")


def pixel_to_sky(header: Mapping[str, str], points: Sequence[tuple[float, float]]) -> list[Place]:
    """ICRS degrees of 0-based pixel places by the frame's WCS; (None, None) where it has none.

    Args:
        header: keyword -> text, as kept in `frames`.
        points: (x, y), the centre of the first pixel is (0, 0).
    """
    nowhere: list[Place] = [(None, None)] * len(points)
    if not points or not has_celestial_wcs(header):
        return nowhere
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sky = _read_wcs(header).pixel_to_world(*np.asarray(points).T).icrs
    except Exception:  # noqa: BLE001 - a WCS that wcslib cannot use costs the position, never the detection
        return nowhere
    pairs = zip(np.atleast_1d(sky.ra.deg), np.atleast_1d(sky.dec.deg), strict=True)
    return [(float(ra), float(dec)) if np.isfinite(ra) and np.isfinite(dec) else (None, None) for ra, dec in pairs]


def has_celestial_wcs(header: Mapping[str, str]) -> bool:
    """Whether the header names sky coordinates."""
    return header.get("CTYPE1", "").strip().upper().startswith(("RA", "GLON"))


def pick_wcs_cards(header: Mapping[str, str]) -> dict[str, str]:
    """The cards that say where the image lies on the sky; empty where none do."""
    if not has_celestial_wcs(header):
        return {}
    return {k: text for k, text in header.items() if _TEXTS.fullmatch(k) or _NUMBERS.fullmatch(k)}


def pixel_to_pixel(
    header: Mapping[str, str], other: Mapping[str, str], points: Sequence[tuple[float, float]]
) -> NDArray[np.float64] | None:
    """Where places of one image lie on another, by both WCSs.

    Args:
        header: of the image the places are on, keyword -> text.
        other: of the other one.
        points: (x, y), 0-based pixels.

    Returns:
        (n, 2), or None where one of them has no WCS that serves.
    """
    if not (has_celestial_wcs(header) and has_celestial_wcs(other)):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sky = _read_wcs(header).pixel_to_world(*np.asarray(points).T).icrs
            found = np.column_stack(_read_wcs(other).world_to_pixel(sky))
    except Exception:  # noqa: BLE001 - without a WCS that serves the stars decide
        return None
    return found if np.isfinite(found).all() else None


def _read_wcs(header: Mapping[str, str]) -> WCS:
    cards = fits.Header()
    for keyword, text in pick_wcs_cards(header).items():
        if _TEXTS.fullmatch(keyword):
            cards[keyword] = text
        elif (number := _read_number(text)) is not None:
            cards[keyword] = int(number) if keyword.endswith("ORDER") else number
    return WCS(cards, naxis=2)


def _read_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
