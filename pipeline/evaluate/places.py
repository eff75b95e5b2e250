"""Where the headers say that one frame lies on another."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from pipeline.difference.transform import Affine, fit_affine
from pipeline.frame.types import Frame

_POINTS = 4


def map_frames(frame: Frame, reference: Frame) -> Affine | None:
    """The affine map from a frame's pixels to the reference's that both celestial WCS give, fitted on 4 x 4 points.

    None where either has none, or where the two do not fit: the map would stretch, mirror or miss.
    """
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            mine, theirs = _read_wcs(frame.header), _read_wcs(reference.header)
            if mine is None or theirs is None:
                return None
            height, width = frame.pixels.shape
            x, y = (np.ravel(v) for v in np.meshgrid(*(np.linspace(0, n - 1, _POINTS) for n in (width, height))))
            lon, lat = mine.all_pix2world(x, y, 0)
            u, v = theirs.all_world2pix(lon, lat, 0)
            at = fit_affine(x, y, np.asarray(u), np.asarray(v))
    except Exception:  # noqa: BLE001 - wcslib's faults come as many kinds; without a map the stars must say
        return None
    return at if at.is_sound() and _meets(at, frame, reference) else None


def _read_wcs(header: Mapping[str, object]) -> WCS | None:
    types = [str(header.get(f"CTYPE{axis}", "")) for axis in (1, 2)]
    if not all(types) or "CRVAL1" not in header:
        return None
    cards = fits.Header()
    for keyword, value in header.items():
        if isinstance(value, str | int | float) and keyword not in ("COMMENT", "HISTORY", ""):
            try:
                cards[keyword] = value
            except ValueError:
                # A card that cannot be written again is none of the WCS.
                continue
    wcs = WCS(cards, naxis=2)
    return wcs if wcs.has_celestial else None


def _meets(at: Affine, frame: Frame, reference: Frame) -> bool:
    """Whether the middle of the frame falls on the reference, or beside it by no more than its size."""
    (height, width), (rows, columns) = frame.pixels.shape, reference.pixels.shape
    x, y = at.apply(np.asarray((width - 1) / 2), np.asarray((height - 1) / 2))
    return bool(-columns < x < 2 * columns and -rows < y < 2 * rows)
