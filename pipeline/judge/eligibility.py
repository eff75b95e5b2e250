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
from typing import Any

from pipeline.errors import UsageError

Value = str | float | None


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
        entries = tomllib.loads(text).get("rule", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"eligibility rules {path}: {error}") from error
    if not isinstance(entries, list):
        raise UsageError(f"eligibility rules {path}: write each rule under a [[rule]] of its own")
    return tuple(_read_rule(entry, number, path) for number, entry in enumerate(entries, 1))


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


def _read_rule(entry: Any, number: int, path: Path | None) -> EligibilityRule:
    where = f"eligibility rules {path or '(built in)'}, rule {number}"
    tests = [name for name in _TESTS if name in entry] if isinstance(entry, Mapping) else []
    if len(tests) != 1 or entry.keys() != {"field", "reason", tests[0]}:
        raise UsageError(f"{where}: needs field, reason and one of {', '.join(_TESTS)}, and nothing else")
    field, reason = str(entry["field"]), str(entry["reason"])
    if field not in NUMBERS | TEXTS and not field.startswith("header."):
        raise UsageError(
            f"{where}: there is no {field}; it may be header.KEYWORD, {', '.join(sorted(NUMBERS | TEXTS))}"
        )
    try:
        holds = _TESTS[tests[0]](entry[tests[0]])
    except (TypeError, ValueError, re.error) as error:
        raise UsageError(f"{where}: {tests[0]} cannot be {entry[tests[0]]!r}: {error}") from error
    try:
        _try_reason(reason, 1.0 if field in NUMBERS else "text")
    except (ValueError, LookupError) as error:
        raise UsageError(f"{where}: the reason {reason!r} cannot be filled in: {error}") from error
    return EligibilityRule(field, holds, reason)


def _try_reason(reason: str, value: str | float) -> None:
    """Fill a reason in once, so that a wrong one is told now and not in the middle of a night."""
    if any(name not in (None, "value") for _, name, _, _ in Formatter().parse(reason)):
        raise ValueError("only {value} can be filled in")
    reason.format(value=value)


def _any_of(wanted: Any) -> Callable[[str | float], bool]:
    if not isinstance(wanted, list):
        raise TypeError("it must be a list")
    words = {str(word).strip().lower() for word in wanted}
    return lambda value: str(value).strip().lower() in words


def _matches(pattern: Any) -> Callable[[str | float], bool]:
    compiled = re.compile(str(pattern), re.IGNORECASE)
    return lambda value: compiled.fullmatch(str(value).strip()) is not None


def _at_most(limit: Any) -> Callable[[str | float], bool]:
    bound = _read_bound(limit)
    return lambda value: (number := _number(value)) is not None and number <= bound


def _at_least(limit: Any) -> Callable[[str | float], bool]:
    bound = _read_bound(limit)
    return lambda value: (number := _number(value)) is not None and number >= bound


def _read_bound(limit: Any) -> float:
    if isinstance(limit, bool) or not isinstance(limit, int | float) or math.isnan(limit):
        raise TypeError("it must be a number")
    return float(limit)


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
