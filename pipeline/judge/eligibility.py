"""Whether a frame may be searched at all: rules are data, the first that holds decides."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Formatter
from typing import Any, TypeVar

from pipeline.errors import UsageError

Value = str | float | None
_Read = TypeVar("_Read")
_LONGEST_SHOWN = 80
# A width or precision of three digits makes a reason of a thousand characters, of twelve one that fills the memory.
_WIDE = r"\d{3}"


NUMBERS = frozenset({"exposure_s", "valid_fraction", "saturated_fraction", "background", "noise", "fwhm_px", "stars"})
TEXTS = frozenset({"instrument", "telescope", "filter", "object", "image_type"})
"""What a rule may look at besides `header.KEYWORD`."""


@dataclass(frozen=True, slots=True)
class EligibilityRule:
    """One test on one value.

    Attributes:
        field: column of `frames`, or `header.KEYWORD`.
        holds: whether the frame with this value must not be searched.
        reason: sentence with `{value}` in it.
    """

    field: str
    holds: Callable[[str | float], bool]
    reason: str


def load_rules(path: Path | None = None) -> tuple[EligibilityRule, ...]:
    """Rules from a TOML file, or the built-in ones.

    Raises:
        UsageError: the file is missing or a rule in it cannot be understood.
    """
    try:
        text = (
            path.read_text(encoding="utf-8")
            if path
            else (resources.files("pipeline.judge") / "data" / "eligibility.toml").read_text(encoding="utf-8")
        )
        content = tomllib.loads(text)
    # Not TOML, no text, or a number of thousands of digits; brackets in brackets in brackets.
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"eligibility rules {path}: {error}") from error
    entries = content.pop("rule", [])
    if content or not isinstance(entries, list):
        stray = f"; {_shorten(min(content))} is unknown" if content else ""
        raise UsageError(f"eligibility rules {path}: write each rule under a [[rule]] of its own{stray}")
    where = f"eligibility rules {path or '(built in)'}, rule"
    return tuple(_read_rule(entry, f"{where} {number}") for number, entry in enumerate(entries, 1))


def find_objection(
    rules: tuple[EligibilityRule, ...], columns: Mapping[str, Value], header: Mapping[str, str]
) -> str | None:
    """Why this frame must not be searched, or None if it may be."""
    for rule in rules:
        key = rule.field.removeprefix("header.")
        value = header.get(key) if rule.field.startswith("header.") else columns.get(key)
        if value is not None and rule.holds(value):
            return rule.reason.format(value=value)
    return None


def _read_rule(entry: Any, where: str) -> EligibilityRule:
    if not isinstance(entry, Mapping):
        raise UsageError(f"{where}: {_shorten(entry)} is no rule; write it under a [[rule]] of its own")
    tests = [name for name in _TESTS if name in entry]
    if unknown := sorted(entry.keys() - {"field", "reason", *_TESTS}):
        raise UsageError(f"{where}, {_shorten(unknown[0])}: unknown; a rule has field, reason and a test")
    if absent := [key for key in ("field", "reason") if key not in entry]:
        raise UsageError(f"{where}, {absent[0]}: missing")
    if len(tests) != 1:
        given = "give one test, not several" if tests else "missing; give one test"
        raise UsageError(f"{where}, {', '.join(tests or _TESTS)}: {given}")
    field = _read_value(where, "field", _read_field, entry["field"])
    sample = 1.0 if field in NUMBERS else "text"
    return EligibilityRule(
        field,
        _read_value(where, tests[0], _TESTS[tests[0]], entry[tests[0]]),
        _read_value(where, "reason", lambda reason: _read_reason(reason, sample), entry["reason"]),
    )


def _read_value(where: str, key: str, read: Callable[[Any], _Read], value: Any) -> _Read:
    try:
        return read(value)
    except (TypeError, ValueError, LookupError, OverflowError, re.error) as error:
        raise UsageError(f"{where}, {key}: {_shorten(value)} cannot be used: {error}") from error


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("it must be a text")
    if not value.strip():
        raise ValueError("it is empty")
    return value


def _read_field(value: Any) -> str:
    field = _read_text(value)
    if field not in NUMBERS | TEXTS and not field.startswith("header."):
        raise ValueError(f"it may be header.KEYWORD, {', '.join(sorted(NUMBERS | TEXTS))}")
    if field == "header.":
        raise ValueError("it names no keyword")
    return field


def _read_reason(value: Any, sample: str | float) -> str:
    """Fill a reason in once, so that a wrong one is told now and not in the middle of a night."""
    reason = _read_text(value)
    if len(reason.splitlines()) != 1:
        raise ValueError("it must be one line")
    for _, name, form, _ in Formatter().parse(reason):
        if name not in (None, "value") or "{" in (form or ""):
            raise ValueError("only {value} can be filled in")
        if re.search(_WIDE, form or ""):
            raise ValueError(f"the format {form} is too wide")
    reason.format(value=sample)
    return reason


def _any_of(wanted: Any) -> Callable[[str | float], bool]:
    if not isinstance(wanted, list):
        raise TypeError("it must be a list")
    if not wanted:
        raise ValueError("it is empty")
    if strange := [word for word in wanted if isinstance(word, bool) or not isinstance(word, str | int | float)]:
        raise TypeError(f"{_shorten(strange[0])} is neither a text nor a number")
    words = {str(word).strip().lower() for word in wanted}
    return lambda value: str(value).strip().lower() in words


def _matches(pattern: Any) -> Callable[[str | float], bool]:
    try:
        compiled = re.compile(_read_text(pattern), re.IGNORECASE)
    except RecursionError as error:
        raise ValueError("it nests too deep") from error
    return lambda value: compiled.fullmatch(str(value).strip()) is not None


def _at_most(limit: Any) -> Callable[[str | float], bool]:
    bound = _read_bound(limit)
    return lambda value: (number := _number(value)) is not None and number <= bound


def _at_least(limit: Any) -> Callable[[str | float], bool]:
    bound = _read_bound(limit)
    return lambda value: (number := _number(value)) is not None and number >= bound


def _read_bound(limit: Any) -> float:
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        raise TypeError("it must be a number")
    try:
        bound = float(limit)
    except OverflowError:
        bound = math.inf
    if not math.isfinite(bound):
        raise ValueError("it must be a finite number")
    return bound


def _number(value: str | float) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


_TESTS: dict[str, Callable[[Any], Callable[[str | float], bool]]] = {
    "any_of": _any_of,
    "matches": _matches,
    "at_most": _at_most,
    "at_least": _at_least,
}
