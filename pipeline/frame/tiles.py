"""Tile-compressed images (.fz): what the tiles claim is checked here, then astropy unpacks them."""

from __future__ import annotations

import io
import re
import warnings
import zlib
from math import ceil, prod

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from pipeline.errors import UnreadableFrameError
from pipeline.frame.cards import BLOCK, CARD
from pipeline.frame.layout import Unit, read_count

_TABLE_KEYWORD = re.compile(
    r"XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|TFIELDS|THEAP|CHECKSUM|DATASUM"
    r"|(?:TTYPE|TFORM|TUNIT|TNULL|TSCAL|TZERO|TDISP|TDIM)\d+"
    r"|ZIMAGE|ZSIMPLE|ZTENSION|ZEXTEND|ZBITPIX|ZNAXIS\d*|ZTILE\d+|ZCMPTYPE|ZNAME\d+|ZVAL\d+|ZMASKCMP|ZQUANTIZ"
    r"|ZDITHER0|ZBLOCKED|ZPCOUNT|ZGCOUNT|ZHECKSUM|ZDATASUM|ZBLANK|ZSCALE|ZZERO"
)
_METHODS = frozenset({"RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1", "NOCOMPRESS"})
_FORM = re.compile(r"(\d*)([LXBIJKAEDCMPQ])(.*)")
_WIDTH = {"L": 1, "B": 1, "A": 1, "I": 2, "J": 4, "E": 4, "K": 8, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}
_HCOMPRESS_MAGIC = b"\xdd\x99"
_MAX_FIELDS = 999


def is_table_keyword(keyword: str) -> bool:
    """Say whether a keyword describes the table that holds the tiles rather than the image in them."""
    return _TABLE_KEYWORD.fullmatch(keyword) is not None


def read_tiles(stored: bytes, unit: Unit) -> NDArray[np.generic]:
    """Unpack the tiles of one unit into the image it holds, scaled as its header says.

    astropy sees this unit alone behind an empty primary header, and of its cards only those that describe the table
    and the scaling: reading hundreds of others twice would cost more than the pixels.

    Raises:
        UnreadableFrameError: `bad_header` or `bad_data` where the tiles cannot be what they claim to be.
    """
    _check_tiles(stored, unit)
    alone = _isolate(stored, unit)
    with warnings.catch_warnings(), fits.open(io.BytesIO(alone), memmap=False) as units:
        warnings.simplefilter("ignore")
        image = units[1].data
    if image is None or image.shape != unit.shape:
        raise UnreadableFrameError("bad_data", f"The tiles of unit {unit.index} do not give the image declared.")
    return np.asarray(image)


def _isolate(stored: bytes, unit: Unit) -> bytes:
    primary = bytes(fits.Header([("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0), ("EXTEND", True)]).tostring(), "ascii")
    own = stored[unit.start : unit.data]
    cards = [own[at : at + CARD] for at in range(0, len(own), CARD)]
    kept = b"".join(card for card in cards if _is_needed(card[:8].decode("latin-1").rstrip())) + b"END".ljust(CARD)
    kept = kept.ljust(len(kept) + -len(kept) % BLOCK)
    return primary + kept + stored[unit.data : unit.end] + b"\0" * (-(unit.end - unit.data) % BLOCK)


def _is_needed(keyword: str) -> bool:
    if keyword in ("CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM"):
        return False
    return is_table_keyword(keyword) or keyword in ("BSCALE", "BZERO", "BLANK")


def _check_tiles(stored: bytes, unit: Unit) -> None:
    method = unit.header.get("ZCMPTYPE")
    if method not in _METHODS:
        raise UnreadableFrameError("bad_header", f"ZCMPTYPE of unit {unit.index} is {method!r}, which is not known.")
    tile = _read_tile_shape(unit)
    rows = read_count(unit.header, "NAXIS2", None, unit.index)
    needed = prod(ceil(length / side) for length, side in zip(unit.shape, tile, strict=True) if length)
    if 0 not in unit.shape and rows != needed:
        raise UnreadableFrameError(
            "bad_header", f"Unit {unit.index} needs {needed} tiles for its image; its table has {rows} rows."
        )
    _check_heap(stored, unit, rows, prod(tile))


def _read_tile_shape(unit: Unit) -> tuple[int, ...]:
    sides = []
    for axis, length in enumerate(reversed(unit.shape), start=1):
        side = read_count(unit.header, f"ZTILE{axis}", length if axis == 1 else 1, unit.index)
        if not 1 <= side <= max(1, length):
            raise UnreadableFrameError(
                "bad_header", f"ZTILE{axis} of unit {unit.index} is {side} on an axis of {length} pixels."
            )
        sides.append(side)
    return tuple(reversed(sides))


def _check_heap(stored: bytes, unit: Unit, rows: int, tile_pixels: int) -> None:
    """Follow every tile's descriptor: it must stay in the heap and unpack to no more than a tile."""
    width = read_count(unit.header, "NAXIS1", None, unit.index)
    heap = unit.data + read_count(unit.header, "THEAP", width * rows, unit.index)
    heap_size = unit.end - heap
    gzipped = str(unit.header["ZCMPTYPE"]).startswith("GZIP")
    for name, offset, form in _find_columns(unit):
        kind = _FORM.fullmatch(form)
        if kind is None or kind[2] not in "PQ":
            continue
        word = ">i4" if kind[2] == "P" else ">i8"
        item = _WIDTH.get(kind[3][:1], 1)
        for row in range(rows):
            count, at = np.frombuffer(stored, word, 2, unit.data + row * width + offset).tolist()
            if count < 0 or at < 0 or at + count * item > heap_size:
                raise UnreadableFrameError("bad_data", f"Tile {row} of unit {unit.index} lies outside the heap.")
            tile = memoryview(stored)[heap + at : heap + at + count * item]
            if name == "GZIP_COMPRESSED_DATA" or (gzipped and name == "COMPRESSED_DATA"):
                _check_gzip(tile, tile_pixels, row, unit)
            elif unit.header["ZCMPTYPE"] == "HCOMPRESS_1" and name == "COMPRESSED_DATA":
                _check_hcompress(tile, tile_pixels, row, unit)


def _find_columns(unit: Unit) -> list[tuple[str, int, str]]:
    """Give name, byte offset in the row and form of each column of the table."""
    found, offset = [], 0
    for field in range(1, min(_MAX_FIELDS, read_count(unit.header, "TFIELDS", None, unit.index)) + 1):
        form = str(unit.header.get(f"TFORM{field}", "")).strip()
        kind = _FORM.fullmatch(form)
        if kind is None:
            raise UnreadableFrameError("bad_header", f"TFORM{field} of unit {unit.index} is {form!r}.")
        found.append((str(unit.header.get(f"TTYPE{field}", "")).strip().upper(), offset, form))
        repeat = int(kind[1] or 1)
        offset += (repeat + 7) // 8 if kind[2] == "X" else repeat * _WIDTH[kind[2]]
    if offset != unit.header["NAXIS1"]:
        raise UnreadableFrameError(
            "bad_header", f"The columns of unit {unit.index} take {offset} bytes; NAXIS1 is {unit.header['NAXIS1']}."
        )
    return found


def _check_gzip(tile: memoryview, pixels: int, row: int, unit: Unit) -> None:
    if not tile:
        return
    allowed = pixels * 8
    stream = zlib.decompressobj(wbits=31)
    size = len(stream.decompress(tile, allowed + 1))
    if size > allowed:
        raise UnreadableFrameError("too_large", f"Tile {row} of unit {unit.index} unpacks to over {allowed} bytes.")


def _check_hcompress(tile: memoryview, pixels: int, row: int, unit: Unit) -> None:
    if not tile:
        return
    sides = np.frombuffer(tile[2:10], ">i4").tolist() if len(tile) >= 10 else [0, 0]  # noqa: PLR2004
    if bytes(tile[:2]) != _HCOMPRESS_MAGIC or min(sides) < 1 or prod(sides) > pixels:
        raise UnreadableFrameError("bad_data", f"Tile {row} of unit {unit.index} is not the HCOMPRESS tile declared.")
