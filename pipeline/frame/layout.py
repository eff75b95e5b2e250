"""The layout of a FITS file: where each header data unit lies, checked against limits before any data is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from pipeline.errors import UnreadableFrameError
from pipeline.frame.cards import BLOCK, CARD, Value, find_header_end, read_cards
from pipeline.frame.types import DecodeLimits

BITPIX = frozenset({8, 16, 32, 64, -32, -64})
_MAX_AXES = 16
_PLANE = 2


@dataclass(frozen=True, slots=True)
class Unit:
    """One header data unit of a file.

    Attributes:
        index: 0 for the primary one.
        start: offset of its header.
        data: offset of its data.
        end: offset just past its data, padding not counted.
        header: its own cards.
        compressed: True for an image stored as tiles in a binary table.
        shape: of the image, slowest axis first, as numpy has it; empty where the unit holds no image.
        bitpix: BITPIX of the image (of the uncompressed one).
    """

    index: int
    start: int
    data: int
    end: int
    header: dict[str, Value]
    compressed: bool
    shape: tuple[int, ...]
    bitpix: int


def walk(payload: bytes, limits: DecodeLimits) -> list[Unit]:
    """Walk the header data units of FITS bytes.

    What follows the last unit without XTENSION at its start is left alone: the standard allows special records.

    Raises:
        UnreadableFrameError: `truncated`, `too_large` or `bad_header`. Missing padding after the last unit is accepted.
    """
    units: list[Unit] = []
    start, cards_left = 0, limits.max_header_cards
    while start == 0 or payload[start : start + 8] == b"XTENSION":
        if len(units) >= limits.max_hdus:
            raise UnreadableFrameError("too_large", f"The file has more than {limits.max_hdus} header data units.")
        end = find_header_end(payload, start, cards_left)
        cards_left -= (end - start) // CARD
        unit = _describe_unit(payload, start, end, len(units), limits)
        units.append(unit)
        start = unit.end + -unit.end % BLOCK
    return units


def _describe_unit(payload: bytes, start: int, end: int, index: int, limits: DecodeLimits) -> Unit:
    header = read_cards(payload[start:end])
    if index == 0 and header.get("SIMPLE") is not True:
        raise UnreadableFrameError("bad_header", "SIMPLE is not T: the file says itself that it is not standard FITS.")
    past = end + CARD
    data = past + (start - past) % BLOCK
    axes = _read_axes(header, "NAXIS", index)
    compressed = header.get("ZIMAGE") is True and header.get("XTENSION") == "BINTABLE"
    bitpix = _read_bitpix(header, "BITPIX", index)
    size = _measure_data(header, axes, index)
    if compressed:
        axes, bitpix = _read_axes(header, "ZNAXIS", index), _read_bitpix(header, "ZBITPIX", index)
    elif index > 0 and header.get("XTENSION") != "IMAGE":
        axes = ()
    if prod(axes) > limits.max_pixels:
        raise UnreadableFrameError(
            "too_large", f"Unit {index} declares {prod(axes)} pixels; the limit is {limits.max_pixels}."
        )
    if size and data + size > len(payload):
        raise UnreadableFrameError(
            "truncated", f"Unit {index} declares {size} bytes of data; {max(0, len(payload) - data)} are there."
        )
    shape = tuple(reversed(axes))
    return Unit(index, start, data, data + size, header, compressed, shape, bitpix)


def _measure_data(header: Mapping[str, Value], axes: tuple[int, ...], index: int) -> int:
    """Give the bytes of data a header declares (FITS 4.0, sections 4.4.1.1 and 6.1.1), without padding."""
    if not axes:
        return 0
    groups = header.get("GROUPS") is True and axes[0] == 0
    elements = prod(axes[1:] if groups else axes)
    pcount, gcount = 0, 1
    if groups or index > 0:
        pcount = read_count(header, "PCOUNT", 0, index)
        gcount = read_count(header, "GCOUNT", 1, index)
    return abs(_read_bitpix(header, "BITPIX", index)) // 8 * gcount * (pcount + elements)


def _read_bitpix(header: Mapping[str, Value], keyword: str, index: int) -> int:
    value = header.get(keyword)
    if isinstance(value, bool) or not isinstance(value, int) or value not in BITPIX:
        raise UnreadableFrameError("bad_header", f"{keyword} of unit {index} is {value!r}, which is no FITS data type.")
    return value


def _read_axes(header: Mapping[str, Value], keyword: str, index: int) -> tuple[int, ...]:
    count = read_count(header, keyword, None, index)
    if count > _MAX_AXES:
        raise UnreadableFrameError("bad_header", f"{keyword} of unit {index} is {count}: more axes than any image has.")
    return tuple(read_count(header, f"{keyword}{axis}", None, index) for axis in range(1, count + 1))


def read_count(header: Mapping[str, Value], keyword: str, default: int | None, index: int) -> int:
    """Read a keyword that must be a whole number of zero or more; a default of None makes it mandatory."""
    value = header.get(keyword, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        shown = "missing" if value is None else f"{value!r}, not a count"
        raise UnreadableFrameError("bad_header", f"{keyword} of unit {index} is {shown}.")
    return value


def flatten_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop axes of length 1, leading ones first, while more than two are left."""
    axes = list(shape)
    while len(axes) > _PLANE and 1 in axes:
        axes.remove(1)
    return tuple(axes)
