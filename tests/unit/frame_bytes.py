"""FITS bytes for tests, written by astropy: what the decoder reads is checked against what astropy wrote and reads."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from astropy.io import fits

from pipeline.frame.types import DecodeLimits, Frame

LIMITS = DecodeLimits()
SMALL = DecodeLimits(max_bytes=2**20, max_unpacked_bytes=2**20, max_pixels=2**16, max_hdus=8, max_header_cards=500)


def write(*units: Any) -> bytes:
    """Write header data units as one file."""
    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits.HDUList(list(units)).writeto(out, output_verify="silentfix")
    return out.getvalue()


def write_image(pixels: np.ndarray | None = None, **cards: Any) -> bytes:
    """Write one plain primary image; the keyword `date_obs` is written DATE-OBS."""
    unit = fits.PrimaryHDU(np.arange(12, dtype=np.int16).reshape(3, 4) if pixels is None else pixels)
    for keyword, value in cards.items():
        unit.header[keyword.upper().replace("_", "-")] = value
    return write(unit)


def write_raw(raw: np.ndarray, **cards: Any) -> bytes:
    """Write stored values as they are, with the scaling keywords given, which astropy would otherwise apply."""
    kinds = {"u1": 8, "i2": 16, "i4": 32, "i8": 64, "f4": -32, "f8": -64}
    lines = ["SIMPLE  =                    T", f"BITPIX  = {kinds[raw.dtype.str[1:]]:20d}", f"NAXIS   = {raw.ndim:20d}"]
    lines += [f"NAXIS{axis:<3d}= {length:20d}" for axis, length in enumerate(reversed(raw.shape), start=1)]
    lines += [str(fits.Card(keyword, value)) for keyword, value in cards.items()]
    header = "".join(line.ljust(80) for line in [*lines, "END"])
    body = header.ljust(-(-len(header) // 2880) * 2880).encode() + raw.astype(raw.dtype.newbyteorder(">")).tobytes()
    return body.ljust(-(-len(body) // 2880) * 2880, b"\0")


def make_frame(pixels: np.ndarray | None = None, **header: Any) -> Frame:
    """Make a frame without any file; the keyword `date_obs` becomes DATE-OBS."""
    image = np.ones((4, 6), np.float32) if pixels is None else pixels.astype(np.float32)
    cards = {keyword.upper().replace("_", "-"): value for keyword, value in header.items()}
    return Frame("0" * 64, "made", image, np.isfinite(image), cards, 0, -32)
