"""What wraps a frame on its way: gzip and bzip2 are recognised by their first bytes, never by a file name."""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Iterator
from typing import Any

from pipeline.errors import UnreadableFrameError
from pipeline.frame.types import DecodeLimits

MAX_DEPTH = 2
"""How many compressions may lie one inside the other."""

_GZIP = b"\x1f\x8b\x08"
_BZIP2_BLOCK = b"1AY&SY"
_BZIP2_EMPTY = b"\x17rE8P\x90"
_FITS = b"SIMPLE  ="
_FEED = 256 * 1024
_DRAIN = 4 * 2**20
_STRANGERS = (
    (b"PK\x03\x04", "a zip archive"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"(\xb5/\xfd", "a zstandard file"),
    (b"\x1f\x9d", "a Unix compress (.Z) file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"\x89HDF", "an HDF5 file"),
    (b"XTENSION", "a FITS extension without its primary header"),
)


def sniff(payload: bytes) -> str:
    """Say what the bytes are from their first few: `fits`, `gzip`, `bzip2` or `unknown`."""
    head = payload[:16]
    if head.startswith(_FITS):
        return "fits"
    if head.startswith(_GZIP):
        return "gzip"
    if head[:3] == b"BZh" and head[3:4].isdigit() and head[4:10] in (_BZIP2_BLOCK, _BZIP2_EMPTY):
        return "bzip2"
    return "unknown"


def unwrap(payload: bytes, limits: DecodeLimits) -> bytes:
    """Take the FITS bytes out of whatever wraps them.

    Args:
        payload: the bytes as delivered.
        limits: `max_bytes` bounds what goes in, `max_unpacked_bytes` what comes out.

    Returns:
        Bytes that begin like a FITS file; the same object where nothing wrapped them.

    Raises:
        UnreadableFrameError: `empty`, `too_large`, `truncated`, `bad_data` or `not_fits`.
    """
    if len(payload) > limits.max_bytes:
        raise UnreadableFrameError(
            "too_large", f"The message has {len(payload)} bytes; the limit is {limits.max_bytes}."
        )
    for _ in range(MAX_DEPTH):
        kind = sniff(payload)
        if kind in ("gzip", "bzip2"):
            payload = _unpack(payload, kind, limits.max_unpacked_bytes)
    if sniff(payload) == "fits":
        return payload
    raise _name_stranger(payload)


def _name_stranger(payload: bytes) -> UnreadableFrameError:
    if not payload.strip(b"\0"):
        return UnreadableFrameError("empty", f"There is nothing but {len(payload)} empty bytes here.")
    if sniff(payload) in ("gzip", "bzip2"):
        return UnreadableFrameError("not_fits", f"More than {MAX_DEPTH} compressions lie inside each other.")
    if _FITS.startswith(payload):
        return UnreadableFrameError("truncated", f"The file ends after {len(payload)} bytes, in its first card.")
    for magic, what in _STRANGERS:
        if payload.startswith(magic):
            return UnreadableFrameError("not_fits", f"This is {what}, not a FITS file.")
    return UnreadableFrameError("not_fits", "The first bytes are not those of a FITS file.")


def _unpack(payload: bytes, kind: str, limit: int) -> bytes:
    parts: list[bytes] = []
    total = 0
    try:
        for part in _expand(payload, kind):
            total += len(part)
            if total > limit:
                raise UnreadableFrameError("too_large", f"The {kind} stream unpacks to over {limit} bytes.")
            parts.append(part)
    except (zlib.error, OSError, ValueError) as error:
        raise UnreadableFrameError("bad_data", f"The {kind} stream is damaged after {total} bytes.") from error
    return b"".join(parts)


def _expand(payload: bytes, kind: str) -> Iterator[bytes]:
    # Members may follow each other; what follows the last and is no member is padding, as gzip(1) and bzip2(1) have it.
    start = 0
    while sniff(payload[start : start + 16]) == kind:
        stream: Any = zlib.decompressobj(wbits=31) if kind == "gzip" else bz2.BZ2Decompressor()
        drain = _drain_gzip if kind == "gzip" else _drain_bzip2
        while not stream.eof:
            piece = payload[start : start + _FEED]
            if not piece:
                raise UnreadableFrameError(
                    "truncated", f"The {kind} stream has no end: all {len(payload)} bytes of it are used up."
                )
            start += len(piece)
            yield from drain(stream, piece)
        start -= len(stream.unused_data)


def _drain_gzip(stream: Any, piece: bytes) -> Iterator[bytes]:
    while piece and not stream.eof:
        yield stream.decompress(piece, _DRAIN)
        piece = stream.unconsumed_tail


def _drain_bzip2(stream: Any, piece: bytes) -> Iterator[bytes]:
    yield stream.decompress(piece, _DRAIN)
    while not stream.eof and not stream.needs_input:
        yield stream.decompress(b"", _DRAIN)
