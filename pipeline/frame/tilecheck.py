"""What a tile-compressed image claims, checked before any codec sees it: the codecs are C and trust their input."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UnreadableFrameError
from pipeline.frame.layout import Unit, read_count

_METHODS = frozenset({"RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1", "NOCOMPRESS"})
_FORM = re.compile(r"(\d{0,9})([LXBIJKAEDCMPQ])(.*)")
_WIDTH = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_TABLE = (8, 2, 1)
_MAX_FIELDS = 999
_MAX_DITHER = 10_000
_MAX_BLOCK = 256
_RICE_BYTES = (1, 2, 4)
_MAX_SETTINGS = 20
_HCOMPRESS_MAGIC = b"\xdd\x99"
_HCOMPRESS_HEAD = 25
_MAX_PLANES = 64
_PLIO_HEAD = 7
_GZIP_COLUMN = "GZIP_COMPRESSED_DATA"
_MAIN_COLUMN = "COMPRESSED_DATA"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of tile descriptors: its byte offset in a row, the type of its words and the bytes of one element."""

    name: str
    offset: int
    word: str
    item: int

    def read(self, stored: bytes, unit: Unit) -> NDArray[np.int64]:
        """Read count and heap offset of every tile; shape (rows, 2)."""
        rows, width = (read_count(unit.header, f"NAXIS{axis}", None, unit.index) for axis in (2, 1))
        table = np.frombuffer(stored, np.uint8, rows * width, unit.data).reshape(rows, width)
        words = np.ascontiguousarray(table[:, self.offset : self.offset + 2 * np.dtype(self.word).itemsize])
        return words.view(self.word).astype(np.int64)


def check_tiles(stored: bytes, unit: Unit) -> list[Column]:
    """Check the claims of one compressed unit and give its columns of descriptors.

    Raises:
        UnreadableFrameError: `bad_header`, `bad_data` or `too_large`.
    """
    method = unit.header.get("ZCMPTYPE")
    if method not in _METHODS:
        raise UnreadableFrameError("bad_header", f"ZCMPTYPE of unit {unit.index} is {method!r}, which is not known.")
    table = tuple(unit.header.get(keyword, 1) for keyword in ("BITPIX", "NAXIS", "GCOUNT"))
    if table != _TABLE:
        raise UnreadableFrameError("bad_header", f"The table of unit {unit.index} has BITPIX, NAXIS, GCOUNT {table}.")
    _check_settings(unit)
    pixels = count_tile_pixels(unit)
    rows = read_count(unit.header, "NAXIS2", None, unit.index)
    if rows != pixels.size:
        raise UnreadableFrameError(
            "bad_header", f"Unit {unit.index} needs {pixels.size} tiles for its image; its table has {rows} rows."
        )
    columns = _find_columns(unit)
    for column in columns:
        _check_column(stored, unit, column, pixels)
    return columns


def _check_settings(unit: Unit) -> None:
    """Check the parameters of the codec: beyond these its arithmetic leaves its buffers."""
    bounds = {"BLOCKSIZE": (1, _MAX_BLOCK), "BYTEPIX": (1, 8), "SMOOTH": (0, 1), "SCALE": (0, 2**24)}
    rice = str(unit.header["ZCMPTYPE"]).startswith("RICE")
    for number in range(1, _MAX_SETTINGS + 1):
        name, value = str(unit.header.get(f"ZNAME{number}", "")).strip().upper(), unit.header.get(f"ZVAL{number}")
        if name not in bounds:
            continue
        low, high = bounds[name]
        sound = isinstance(value, int | float) and low <= value <= high
        if not sound or (name == "BYTEPIX" and rice and value not in _RICE_BYTES):
            raise UnreadableFrameError("bad_header", f"{name} of unit {unit.index} is {value!r}.")
    if f"ZNAME{_MAX_SETTINGS + 1}" in unit.header:
        raise UnreadableFrameError("bad_header", f"Unit {unit.index} sets over {_MAX_SETTINGS} codec parameters.")
    dither = read_count(unit.header, "ZDITHER0", 1, unit.index)
    if not 1 <= dither <= _MAX_DITHER:
        raise UnreadableFrameError("bad_header", f"ZDITHER0 of unit {unit.index} is {dither}.")


def count_tile_pixels(unit: Unit) -> NDArray[np.int64]:
    """Count the pixels of each tile in the order of the table's rows; tiles at the far edges are cut."""
    axes = []
    for axis, length in enumerate(reversed(unit.shape), start=1):
        side = read_count(unit.header, f"ZTILE{axis}", length if axis == 1 else 1, unit.index)
        if not 1 <= side <= length:
            raise UnreadableFrameError(
                "bad_header", f"ZTILE{axis} of unit {unit.index} is {side} on an axis of {length} pixels."
            )
        sides = np.full(ceil(length / side), side, np.int64)
        sides[-1] = length - side * (sides.size - 1)
        axes.append(sides)
    return np.asarray(reduce(np.multiply.outer, reversed(axes))).ravel()


def _find_columns(unit: Unit) -> list[Column]:
    found, offset = [], 0
    for field in range(1, min(_MAX_FIELDS, read_count(unit.header, "TFIELDS", None, unit.index)) + 1):
        form = str(unit.header.get(f"TFORM{field}", "")).strip()
        kind = _FORM.fullmatch(form)
        if kind is None:
            raise UnreadableFrameError("bad_header", f"TFORM{field} of unit {unit.index} is {form!r}.")
        repeat = int(kind[1] or 1)
        if kind[2] in "PQ" and repeat == 1:
            name = str(unit.header.get(f"TTYPE{field}", "")).strip().upper()
            found.append(Column(name, offset, ">i4" if kind[2] == "P" else ">i8", _WIDTH.get(kind[3][:1], 1)))
        offset += (repeat + 7) // 8 if kind[2] == "X" else repeat * _WIDTH[kind[2]]
    if offset != unit.header["NAXIS1"]:
        raise UnreadableFrameError(
            "bad_header", f"The columns of unit {unit.index} take {offset} bytes; NAXIS1 is {unit.header['NAXIS1']}."
        )
    if not any(column.name == _MAIN_COLUMN for column in found):
        raise UnreadableFrameError("bad_header", f"Unit {unit.index} has no column of compressed tiles.")
    return found


def _check_column(stored: bytes, unit: Unit, column: Column, pixels: NDArray[np.int64]) -> None:
    """Check that every tile lies in the heap and that what it says of itself fits the image."""
    heap = find_heap(unit)
    tiles = column.read(stored, unit)
    counts, starts = tiles.T
    size = unit.end - heap
    outside = (counts < 0) | (starts < 0) | (counts > size) | (starts > size) | (starts + counts * column.item > size)
    if outside.any():
        raise UnreadableFrameError(
            "bad_data", f"Tile {int(outside.argmax())} of unit {unit.index} lies outside the heap."
        )
    check = _choose_check(unit, column)
    if check is None:
        return
    view = memoryview(stored)
    for row in np.flatnonzero(counts):
        start = heap + int(starts[row])
        wrong = check(view[start : start + int(counts[row]) * column.item], int(pixels[row]))
        if wrong is not None:
            code, what = wrong
            raise UnreadableFrameError(code, f"Tile {row} of unit {unit.index} {what}.")


def find_heap(unit: Unit) -> int:
    """Find the offset in the file where the heap of a table begins."""
    width, rows = (read_count(unit.header, f"NAXIS{axis}", None, unit.index) for axis in (1, 2))
    start = read_count(unit.header, "THEAP", width * rows, unit.index)
    if not width * rows <= start <= unit.end - unit.data:
        raise UnreadableFrameError("bad_header", f"THEAP of unit {unit.index} is {start}, outside its data.")
    return unit.data + start


Fault = tuple[str, str] | None


def _choose_check(unit: Unit, column: Column) -> Callable[[memoryview, int], Fault] | None:
    method = str(unit.header["ZCMPTYPE"])
    if column.name == _GZIP_COLUMN or (column.name == _MAIN_COLUMN and method.startswith("GZIP")):
        return _check_gzip
    if column.name != _MAIN_COLUMN:
        return None
    if method == "PLIO_1" and column.item != np.dtype(np.int16).itemsize:
        raise UnreadableFrameError("bad_header", f"The PLIO tiles of unit {unit.index} are not 16-bit words.")
    return {"HCOMPRESS_1": _check_hcompress, "PLIO_1": _check_plio}.get(method)


def _check_gzip(tile: memoryview, pixels: int) -> Fault:
    allowed = pixels * 8
    try:
        size = len(zlib.decompressobj(wbits=31).decompress(tile, allowed + 1))
    except zlib.error:
        return "bad_data", "is a damaged gzip stream"
    return ("too_large", f"unpacks to over {allowed} bytes") if size > allowed else None


def _check_hcompress(tile: memoryview, pixels: int) -> Fault:
    head = bytes(tile[:_HCOMPRESS_HEAD])
    if len(head) < _HCOMPRESS_HEAD or head[:2] != _HCOMPRESS_MAGIC:
        return "bad_data", "does not begin like an HCOMPRESS stream"
    sides = np.frombuffer(head[2:10], ">i4").tolist()
    if min(sides) < 1 or prod(sides) != pixels:
        return "bad_data", f"says it has {sides[0]} x {sides[1]} pixels where the image needs {pixels}"
    return ("bad_data", "has more bit planes than an integer") if max(head[22:25]) > _MAX_PLANES else None


def _check_plio(tile: memoryview, pixels: int) -> Fault:
    words = np.frombuffer(tile, ">i2").astype(int)
    if words.size < _PLIO_HEAD:
        return "bad_data", "is too short for a PLIO line list"
    # the old form has its length in the third word, the new one in the fourth and fifth and its header's in the second
    old = words[2] > 0
    length, first = (words[2], 3) if old else ((words[4] << 15) + words[3], words[1])
    fits = first >= 0 and 0 <= length <= words.size
    return None if fits and pixels else ("bad_data", "says it is longer than it is")
