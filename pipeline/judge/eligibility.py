"""Whether a frame may be searched at all: rules are data, the first that holds decides."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError

Value = str | float | None


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


def _read_rule(entry: Mapping[str, Any], number: int, path: Path | None) -> EligibilityRule:
    tests = [name for name in _TESTS if name in entry]
    if len(tests) != 1 or "field" not in entry or "reason" not in entry:
        raise UsageError(
            f"eligibility rules {path or '(built in)'}, rule {number}: "
            f"needs field, reason and one of {', '.join(_TESTS)}"
        )
    return EligibilityRule(str(entry["field"]), _TESTS[tests[0]](entry[tests[0]]), str(entry["reason"]))


def _any_of(wanted: Any) -> Callable[[str | float], bool]:
    words = {str(word).strip().lower() for word in wanted}
    return lambda value: str(value).strip().lower() in words


def _matches(pattern: Any) -> Callable[[str | float], bool]:
    compiled = re.compile(str(pattern), re.IGNORECASE)
    return lambda value: compiled.fullmatch(str(value).strip()) is not None


def _at_most(limit: Any) -> Callable[[str | float], bool]:
    return lambda value: (number := _number(value)) is not None and number <= float(limit)


def _at_least(limit: Any) -> Callable[[str | float], bool]:
    return lambda value: (number := _number(value)) is not None and number >= float(limit)


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
