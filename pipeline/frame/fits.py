"""FITS bytes -> Frame. Headers and plain images are read here; only compressed tiles and odd cards go to astropy."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UnreadableFrameError
from pipeline.frame.cards import Value
from pipeline.frame.containers import unwrap
from pipeline.frame.layout import Unit, flatten_shape, walk
from pipeline.frame.tiles import is_table_keyword, read_tiles
from pipeline.frame.types import DecodeLimits, Frame
from pipeline.frame.validity import valid_area

_AUXILIARY = frozenset(
    {
        *("UNCERT", "UNCERTAINTY", "VARIANCE", "VAR", "IVAR", "INVVAR", "ERR", "ERROR", "STDDEV", "SIGMA", "RMS"),
        *("MASK", "MSK", "DQ", "FLAGS", "BPM", "BADPIX", "PSF", "PSFIMAGE"),
        *("WEIGHT", "WEIGHTS", "WHT", "WGT", "WTMAP", "CONFIDENCE", "CONF", "CTX", "EXPMAP"),
    }
)
_STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|PCOUNT|GCOUNT|GROUPS|BSCALE|BZERO|BLANK|CHECKSUM|DATASUM|EXTNAME|EXTVER"
)
_PLANE = 2
_CHUNK = 4 * 2**20


def decode(payload: bytes, *, name: str, limits: DecodeLimits, frame_id: str | None = None) -> Frame:
    """Decode one frame from the bytes as delivered (FITS, or FITS inside gzip or bzip2).

    The image is that of the first unit that holds a 2-D image; units whose EXTNAME says mask, weight, uncertainty or
    PSF are taken only where there is no other. Axes of length 1 are dropped; of a true cube the first plane is taken
    (`describe` says so in a note: NAXIS stays in the header). Pixels without a value (NaN, infinite, BLANK) are NaN.

    Args:
        payload: the bytes as delivered.
        name: file name or message key, for people only.
        limits: what the frame may cost.
        frame_id: sha256 (hex) of the payload where the caller has it already.

    Raises:
        UnreadableFrameError: `empty`, `not_fits`, `truncated`, `too_large`, `bad_header`, `no_image` or `bad_data`;
            nothing else, whatever the bytes.
    """
    try:
        return _decode(payload, name, limits, frame_id)
    except UnreadableFrameError:
        raise
    except MemoryError as error:
        raise UnreadableFrameError("too_large", "The frame does not fit in the memory allowed.") from error
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise UnreadableFrameError(
            "bad_data", f"The frame cannot be decoded: {type(error).__name__} {said}."
        ) from error


def _decode(payload: bytes, name: str, limits: DecodeLimits, frame_id: str | None) -> Frame:
    if not payload:
        raise UnreadableFrameError("empty", "The message has no bytes.")
    stored = unwrap(payload, limits)
    units = walk(stored, limits)
    unit = _choose_unit(units)
    pixels, finite = _read_image(stored, unit)
    return Frame(
        frame_id=hashlib.sha256(payload).hexdigest() if frame_id is None else frame_id,
        name=name,
        pixels=pixels,
        valid=valid_area(pixels, finite),
        header=_merge_headers(units[0], unit),
        hdu=unit.index,
        bitpix=unit.bitpix,
    )


def _choose_unit(units: Sequence[Unit]) -> Unit:
    images = [unit for unit in units if len(flatten_shape(unit.shape)) >= _PLANE and 0 not in unit.shape]
    if not images:
        raise UnreadableFrameError("no_image", f"None of the {len(units)} header data units holds a 2-D image.")
    return next((unit for unit in images if not _is_auxiliary(unit)), images[0])


def _is_auxiliary(unit: Unit) -> bool:
    words = re.split(r"[^A-Z]+", str(unit.header.get("EXTNAME", "")).upper())
    return not _AUXILIARY.isdisjoint(words)


def _merge_headers(primary: Unit, unit: Unit) -> dict[str, Value]:
    own = unit.header
    if unit.compressed:
        own = {keyword: value for keyword, value in own.items() if not is_table_keyword(keyword)}
        own["BITPIX"], own["NAXIS"] = unit.bitpix, len(unit.shape)
        own |= {f"NAXIS{axis}": length for axis, length in enumerate(reversed(unit.shape), start=1)}
    if unit is primary:
        return own
    inherited = {k: v for k, v in primary.header.items() if _STRUCTURE.fullmatch(k) is None}
    return inherited | own


def _read_image(stored: bytes, unit: Unit) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    if unit.compressed:
        return _mark_finite(_take_plane(read_tiles(stored, unit), unit.shape))
    count = int(np.prod(unit.shape, dtype=np.int64))
    kind = f">{'f' if unit.bitpix < 0 else 'u' if unit.bitpix == 8 else 'i'}{abs(unit.bitpix) // 8}"  # noqa: PLR2004
    raw = np.frombuffer(stored, dtype=kind, count=count, offset=unit.data)
    return _scale(_take_plane(raw.reshape(unit.shape), unit.shape), unit)


def _take_plane(image: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.generic]:
    plane = image.reshape(flatten_shape(shape))
    while plane.ndim > _PLANE:
        plane = plane[0]
    return plane


def _scale(raw: NDArray[np.generic], unit: Unit) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Apply BSCALE, BZERO and BLANK (FITS 4.0, section 5.3) and turn the result into native float32."""
    scale, zero = _read_factor(unit, "BSCALE", 1.0), _read_factor(unit, "BZERO", 0.0)
    pixels = np.empty(raw.shape, dtype=np.float32)
    with np.errstate(all="ignore"):
        if abs(unit.bitpix) <= 16 or (scale == 1 and zero == 0):  # noqa: PLR2004
            pixels[...] = raw
            _apply(pixels, scale, zero)
        else:
            # float32 would lose digits of 32-bit values before BZERO is added; a few rows at a time bound the copy
            rows = max(1, _CHUNK // max(1, raw.shape[1]))
            for start in range(0, raw.shape[0], rows):
                pixels[start : start + rows] = _widen(raw[start : start + rows], unit, scale, zero)
        blank = _read_blank(unit)
        if blank is not None:
            pixels[np.asarray(raw == blank)] = np.nan
    if unit.bitpix > 0 and blank is None and scale == 1 and abs(zero) <= 2.0**63:
        return pixels, np.ones(raw.shape, dtype=bool)
    return _mark_finite(pixels)


def _read_blank(unit: Unit) -> int | None:
    """Read BLANK, which counts for integers only; a blank that no 64-bit integer equals never occurs."""
    value = unit.header.get("BLANK")
    if unit.bitpix < 0 or isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) < 2**63 else None


def _widen(raw: NDArray[np.generic], unit: Unit, scale: float, zero: float) -> NDArray[np.generic]:
    if unit.bitpix == 64 and scale == 1 and zero == 2.0**63:  # noqa: PLR2004
        # the unsigned convention: float64 holds 53 bits only, flipping the sign bit holds all 64
        return raw.astype(np.int64).view(np.uint64) ^ np.uint64(2**63)
    wide = raw.astype(np.float64)
    _apply(wide, scale, zero)
    return wide


def _apply(values: NDArray[np.floating], scale: float, zero: float) -> None:
    if scale != 1:
        values *= values.dtype.type(scale)
    if zero != 0:
        values += values.dtype.type(zero)


def _read_factor(unit: Unit, keyword: str, default: float) -> float:
    value = unit.header.get(keyword, default)
    if value == "":
        return default
    if isinstance(value, bool | str):
        raise UnreadableFrameError("bad_header", f"{keyword} of unit {unit.index} is {value!r}, not a number.")
    return float(value)


def _mark_finite(image: NDArray[np.generic]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    with np.errstate(all="ignore"):
        pixels = np.ascontiguousarray(image, dtype=np.float32)
    # The largest number there is stands for none: some programs fill with it.
    finite = np.abs(pixels) < np.finfo(np.float32).max
    if not finite.all():
        pixels = np.where(finite, pixels, np.float32(np.nan))
    return pixels, finite
