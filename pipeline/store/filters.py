"""Milvus filter expressions from typed values on allow-listed fields; never from strings a user wrote."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pipeline.errors import StoreError
from pipeline.ports import Prefilter

# Milvus has no portable null: these stand for "unknown" and match only each other.
UNKNOWN_TEXT = ""
UNKNOWN_ZONE = -1
UNKNOWN_NUMBER = -1.0
# Below every moment there can be: -1 is a moment of 1969, and plates are older than that.
UNKNOWN_TIME = -(2**62)
_FIRST_TIME = UNKNOWN_TIME + 1
LONGEST_TEXT = 512

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_TEXT_FIELDS = frozenset({"id", "frame_id", "reference_set", "instrument", "filter", "model", "label"})
_NUMBER_FIELDS = frozenset({"zone", "exposure_s", "obs_time", "score"})


def build_filter(prefilter: Prefilter, reference_set: str) -> str:
    """The expression of a prefilter in one reference set; every literal is quoted, every field name is ours."""
    low = UNKNOWN_NUMBER if prefilter.exposure_min is None else prefilter.exposure_min
    high = UNKNOWN_NUMBER if prefilter.exposure_max is None else prefilter.exposure_max
    parts = [
        "is_reference == true",
        equals("reference_set", fit_text(reference_set)),
        equals("instrument", fit_text(prefilter.instrument)),
        equals("filter", fit_text(prefilter.filter)),
        equals("model", fit_text(prefilter.model)),
        *([] if prefilter.anywhere else [one_of("zone", list(prefilter.zones) or [UNKNOWN_ZONE])]),
        at_least("exposure_s", low),
        at_most("exposure_s", high),
    ]
    if prefilter.obs_after is not None:
        parts.append(at_least("obs_time", to_epoch(prefilter.obs_after)))
    if prefilter.obs_before is not None:
        parts += [at_least("obs_time", _FIRST_TIME), at_most("obs_time", to_epoch(prefilter.obs_before))]
    return " and ".join(parts)


def equals(field: str, value: str) -> str:
    """Text field equals value."""
    return f"{_text_field(field)} == {quote(value)}"


def one_of(field: str, values: Sequence[str] | Sequence[int]) -> str:
    """Field is one of the values, all text or all whole numbers."""
    if all(isinstance(v, str) for v in values):
        return f"{_text_field(field)} in [{', '.join(quote(str(v)) for v in values)}]"
    return f"{_number_field(field)} in [{', '.join(str(int(v)) for v in values)}]"


def at_least(field: str, value: float) -> str:
    """Number field is value or more."""
    return f"{_number_field(field)} >= {_literal(value)}"


def at_most(field: str, value: float) -> str:
    """Number field is value or less."""
    return f"{_number_field(field)} <= {_literal(value)}"


def quote(value: str) -> str:
    """A text literal: only what would end it is escaped, for Milvus Lite knows no other escapes than these."""
    return '"' + "".join(_ESCAPES.get(character, character) for character in value) + '"'


def fit_text(value: str | None) -> str:
    """Text as the collection keeps it: cut to what its column holds, empty for unknown."""
    content = UNKNOWN_TEXT.encode() if value is None else value.encode(errors="replace")
    if len(content) <= LONGEST_TEXT:
        return content.decode()
    # Two long texts that begin alike must not become one.
    digest = hashlib.sha256(content).hexdigest()
    return content[: LONGEST_TEXT - len(digest)].decode(errors="ignore") + digest


def to_epoch(moment: datetime | None) -> int:
    """Microseconds since 1970 of a naive UTC time; `UNKNOWN_TIME` for unknown."""
    if moment is None:
        return UNKNOWN_TIME
    # Whole numbers throughout: as a float the microsecond of a date would be lost.
    return (moment.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def _text_field(field: str) -> str:
    if field not in _TEXT_FIELDS:
        raise StoreError(f"{field!r} is not a text field of the vector collection")
    return field


def _number_field(field: str) -> str:
    if field not in _NUMBER_FIELDS:
        raise StoreError(f"{field!r} is not a number field of the vector collection")
    return field


def _literal(value: float) -> str:
    if not math.isfinite(value):
        raise StoreError("a filter bound must be a finite number")
    return repr(value)
