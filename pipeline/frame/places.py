"""Pixel places of detections -> right ascension and declination."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

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
    if not points or not header.get("CTYPE1", "").strip().upper().startswith(("RA", "GLON")):
        return nowhere
    cards = fits.Header()
    for keyword, text in header.items():
        if _TEXTS.fullmatch(keyword):
            cards[keyword] = text
        elif _NUMBERS.fullmatch(keyword) and (number := _read_number(text)) is not None:
            cards[keyword] = int(number) if keyword.endswith("ORDER") else number
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sky = WCS(cards, naxis=2).pixel_to_world(*np.asarray(points).T).icrs
    except Exception:  # noqa: BLE001 - a WCS that wcslib cannot use costs the position, never the detection
        return nowhere
    pairs = zip(np.atleast_1d(sky.ra.deg), np.atleast_1d(sky.dec.deg), strict=True)
    return [(float(ra), float(dec)) if np.isfinite(ra) and np.isfinite(dec) else (None, None) for ra, dec in pairs]


def _read_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
