"""Tile-compressed images (.fz): isolated from the rest of the file, then unpacked by astropy."""

from __future__ import annotations

import io
import re
import warnings

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from pipeline.errors import UnreadableFrameError
from pipeline.frame.cards import BLOCK, CARD, write_card
from pipeline.frame.layout import Unit
from pipeline.frame.tilecheck import Column, check_tiles, count_tile_pixels, find_heap

_TABLE_KEYWORD = re.compile(
    r"XTENSION|BITPIX|NAXIS\d*|PCOUNT|GCOUNT|TFIELDS|THEAP|CHECKSUM|DATASUM"
    r"|(?:TTYPE|TFORM|TUNIT|TNULL|TSCAL|TZERO|TDISP|TDIM)\d+"
    r"|ZIMAGE|ZSIMPLE|ZTENSION|ZEXTEND|ZBITPIX|ZNAXIS\d*|ZTILE\d+|ZCMPTYPE|ZNAME\d+|ZVAL\d+|ZMASKCMP|ZQUANTIZ"
    r"|ZDITHER0|ZBLOCKED|ZPCOUNT|ZGCOUNT|ZHECKSUM|ZDATASUM|ZBLANK|ZSCALE|ZZERO"
)
_LEFT_OUT = frozenset({"CHECKSUM", "DATASUM", "ZHECKSUM", "ZDATASUM", "THEAP"})
_END = "END".ljust(CARD)
_SCALING = frozenset({"BSCALE", "BZERO", "BLANK"})
_BYTES_PER_PIXEL = 16
"""What an HCOMPRESS stream of 64 bit planes can use up at most, with the codes of its quadtree."""


def is_table_keyword(keyword: str) -> bool:
    """Say whether a keyword describes the table that holds the tiles rather than the image in them."""
    return _TABLE_KEYWORD.fullmatch(keyword) is not None


def read_tiles(stored: bytes, unit: Unit) -> NDArray[np.generic]:
    """Unpack the tiles of one unit into the image it holds, scaled as its header says.

    astropy sees this unit alone behind an empty primary header, and of its cards only those that describe the table
    and the scaling: reading hundreds of others twice would cost more than the pixels.

    Raises:
        UnreadableFrameError: `bad_header`, `bad_data` or `too_large` where the tiles cannot be what they claim to be.
    """
    alone = _isolate(stored, unit, check_tiles(stored, unit))
    with warnings.catch_warnings(), fits.open(io.BytesIO(alone), memmap=False) as units:
        warnings.simplefilter("ignore")
        image = units[1].data
    if image is None or image.shape != unit.shape:
        raise UnreadableFrameError("bad_data", f"The tiles of unit {unit.index} do not give the image declared.")
    return np.asarray(image)


def _isolate(stored: bytes, unit: Unit, columns: list[Column]) -> bytes:
    """Write the unit as a file of its own, from the values that were checked; the heap follows the table at once."""
    header = unit.header
    heap_start = find_heap(unit)
    size = int(header["NAXIS1"]) * int(header["NAXIS2"])
    table, heap = stored[unit.data : unit.data + size], stored[heap_start : unit.end]
    if header["ZCMPTYPE"] == "HCOMPRESS_1":
        table, heap = _give_slack(stored, unit, columns, table, heap)
    first = {key: header[key] for key in ("XTENSION", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2")}
    first |= {"PCOUNT": len(heap), "GCOUNT": 1, "TFIELDS": header["TFIELDS"]}
    others = {key: value for key, value in header.items() if key not in first and _is_needed(key)}
    cards = "".join(write_card(key, value) for key, value in {**first, **others}.items())
    head = "".join(write_card(*card) for card in (("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0), ("EXTEND", True)))
    return b"".join(
        _pad(part, filler)
        for part, filler in (
            (f"{head}{_END}".encode(), b" "),
            (f"{cards}{_END}".encode(), b" "),
            (table + heap, b"\0"),
        )
    )


def _is_needed(keyword: str) -> bool:
    return keyword in _SCALING or (is_table_keyword(keyword) and keyword not in _LEFT_OUT)


def _pad(block: bytes, filler: bytes) -> bytes:
    return block + filler * (-len(block) % BLOCK)


def _give_slack(stored: bytes, unit: Unit, columns: list[Column], table: bytes, heap: bytes) -> tuple[bytes, bytes]:
    """Lengthen every HCOMPRESS tile by all that its codec could ever read.

    That codec takes no notice of where its input ends, so a damaged stream would lead it out of the buffer; what
    follows the true end is ignored where the stream is sound.
    """
    slack = _BYTES_PER_PIXEL * int(count_tile_pixels(unit).max())
    rows = np.frombuffer(table, np.uint8).reshape(int(unit.header["NAXIS2"]), -1).copy()
    for column in columns:
        if column.name == "COMPRESSED_DATA":
            tiles = column.read(stored, unit)
            tiles[:, 0] += np.where(tiles[:, 0] > 0, slack, 0)
            words = tiles.astype(column.word).view(np.uint8)
            rows[:, column.offset : column.offset + words.shape[1]] = words
    return rows.tobytes(), heap + b"\0" * slack
