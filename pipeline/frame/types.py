"""The types a frame passes through before it is a vector: RawFrame -> Frame -> FrameRow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What a frame may cost before it is refused. Sizes in bytes, pixels and header data units."""

    max_bytes: int = 256 * 2**20
    max_unpacked_bytes: int = 1024 * 2**20
    max_pixels: int = 120_000_000
    max_hdus: int = 256
    max_header_cards: int = 20_000
    seconds: float = 60.0
    memory_bytes: int = 4 * 2**30


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded image.

    Attributes:
        frame_id: sha256 (hex) of the bytes as delivered; the same content always has the same id.
        name: file name or message key, for people only.
        pixels: float32, shape (height, width), row 0 is the first row stored; native byte order.
        valid: bool, same shape; False where the pixel carries no sky (NaN, BLANK, zero-filled border).
        header: the merged header (primary, then the image's own unit), keyword -> value, in file order.
        hdu: index of the header data unit the image came from.
        bitpix: BITPIX of the stored image before any scaling.
    """

    frame_id: str
    name: str
    pixels: NDArray[np.float32]
    valid: NDArray[np.bool_]
    header: Mapping[str, str | int | float | bool]
    hdu: int
    bitpix: int


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality-control numbers of a frame, in the frame's own units (ADU, pixels).

    `ceiling` is the level from which on pixels count as saturated, None where none is known or seen.
    """

    background: float | None
    noise: float | None
    fwhm_px: float | None
    stars: int | None
    valid_fraction: float
    saturated_fraction: float
    ceiling: float | None = None


@dataclass(frozen=True, slots=True)
class Pointing:
    """Where the frame looked: ICRS degrees, how that was found, and how far it reaches.

    Attributes:
        ra: right ascension of the centre, degrees [0, 360), or None.
        dec: declination of the centre, degrees, or None.
        source: the rule that gave it, e.g. `wcs`, `RA/DEC decimal degrees`, `RA sexagesimal hours`.
        radius: half the diagonal of the footprint in degrees, or None where the scale is unknown.
        zone: HEALPix cell (nested) of the centre, or None where there is no position.
        zones: every cell that the footprint (or the default pointing radius) touches.
    """

    ra: float | None
    dec: float | None
    source: str
    radius: float | None
    zone: int | None
    zones: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SkyRules:
    """How the sky is divided.

    Attributes:
        order: HEALPix order; cells are nested, nside = 2**order. 6 gives cells of about 55 arcmin.
        default_radius: degrees around the pointing that count as seen where the footprint is not known.
        margin: degrees added to every footprint, so that rounding never loses a cell at its edge.
    """

    order: int = 6
    default_radius: float = 0.5
    margin: float = 0.001


@dataclass(frozen=True, slots=True)
class FrameRow:
    """The typed core of a frame's metadata: one row of the `frames` table, less its source position."""

    frame_id: str
    name: str
    obs_time: datetime | None
    obs_time_source: str
    night: date | None
    instrument: str | None
    telescope: str | None
    filter: str | None
    exposure_s: float | None
    object: str | None
    image_type: str | None
    pointing: Pointing
    width: int
    height: int
    hdu: int
    bitpix: int
    quality: Quality
    header: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())
