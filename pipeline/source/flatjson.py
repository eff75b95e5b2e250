"""JSON objects from a network, read without the memory that a hostile one would take.

An ordinary parser makes thirty bytes of objects out of three bytes of text, `[],`: a message of 64 MB would take a
gigabyte. Here the object may have one long text; fields are few and what is nested in them is small.
"""

from __future__ import annotations

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import NoReturn

from pipeline.errors import UnreadableFrameError

_MOST_FIELDS = 256
_LONGEST_OTHER = 16_384
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder(parse_constant=lambda word: _refuse(f"{word} is no JSON"))


def read_flat_json(value: bytes) -> dict[str, object]:
    """The fields of a JSON object; no name comes twice.

    Raises:
        UnreadableFrameError: `bad_json`.
    """
    try:
        text = value.decode("utf-8-sig")
        return _read_object(text, _skip(text, 0))
    # Digits without end, or nesting that is too deep, are no JSON that we read.
    except (ValueError, IndexError, RecursionError) as error:
        raise UnreadableFrameError("bad_json", f"the message is no JSON object: {str(error)[:120]}") from error


def _read_object(text: str, at: int) -> dict[str, object]:
    fields: dict[str, object] = {}
    at = _expect(text, at, "{")
    while text[at] != "}":
        if fields:
            at = _expect(text, at, ",")
        key, at = scanstring(text, _expect(text, at, '"', skip=False), True)
        at = _expect(text, _skip(text, at), ":")
        if key in fields:
            _refuse(f"{key[:40]!r} comes twice")
        if len(fields) == _MOST_FIELDS:
            _refuse(f"more than {_MOST_FIELDS} fields")
        if text[at] == '"':
            fields[key], at = scanstring(text, at + 1, True)
        else:
            fields[key], at = _read_other(text, at)
        at = _skip(text, at)
    if _skip(text, at + 1) != len(text):
        _refuse("something follows the object")
    return fields


def _read_other(text: str, at: int) -> tuple[object, int]:
    part = text[at : at + _LONGEST_OTHER]
    content, length = _DECODER.raw_decode(part)
    if length == _LONGEST_OTHER:
        _refuse("a field is too long")
    return content, at + length


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _expect(text: str, at: int, character: str, *, skip: bool = True) -> int:
    if text[at] != character:
        _refuse(f"{character} expected at {at}")
    return _skip(text, at + 1) if skip else at + 1


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)
