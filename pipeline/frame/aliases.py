"""The keyword-alias table: which keyword means what, in general and for one instrument. Data, read from a file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any

from pipeline.errors import UsageError


@dataclass(frozen=True, slots=True)
class Aliases:
    """What each typed column is called in a header; the meaning of each field stands in `data/aliases.toml`."""

    instrument: tuple[str, ...] = ()
    telescope: tuple[str, ...] = ()
    object: tuple[str, ...] = ()
    image_type: tuple[str, ...] = ()
    exposure: tuple[str, ...] = ()
    saturation: tuple[str, ...] = ()
    filter: tuple[str, ...] = ()
    filter_slots: tuple[str, ...] = ()
    open_slots: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    date: tuple[str, ...] = ()
    time: tuple[str, ...] = ()
    mjd: tuple[str, ...] = ()
    longitude: tuple[str, ...] = ()
    west_longitude: bool = False
    position: tuple[tuple[str, str], ...] = ()
    ra_decimal_hours: bool = False
    ra_sexagesimal_degrees: bool = False


@dataclass(frozen=True, slots=True)
class AliasTable:
    """The default aliases and those of single instruments, each with the patterns a header must fit."""

    default: Aliases
    instruments: tuple[tuple[tuple[tuple[str, tuple[str, ...]], ...], Aliases], ...] = ()

    def choose(self, header: Mapping[str, object]) -> Aliases:
        """Give the aliases of the first instrument that fits the header, else the default ones."""
        for patterns, aliases in self.instruments:
            if all(_fits(header.get(keyword), wanted) for keyword, wanted in patterns):
                return aliases
        return self.default


def _fits(value: object, wanted: tuple[str, ...]) -> bool:
    text = str(value).strip().lower()
    return value is not None and any(fnmatchcase(text, pattern) for pattern in wanted)


@cache
def load_aliases() -> AliasTable:
    """Load the table that comes with the package; read once, then the same object again."""
    return parse_aliases(resources.files("pipeline.frame").joinpath("data/aliases.toml").read_text("utf-8"))


def parse_aliases(text: str) -> AliasTable:
    """Parse an alias table from TOML.

    Raises:
        UsageError: the text is no TOML, or names a field that does not exist.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"The alias table is not TOML: {error}.") from error
    default = _fill(Aliases(), table.get("default", {}))
    instruments = tuple(
        (
            tuple((keyword, _lower(wanted)) for keyword, wanted in entry.get("match", {}).items()),
            _fill(default, {key: value for key, value in entry.items() if key not in ("name", "match")}),
        )
        for entry in table.get("instrument", ())
        if entry.get("match")
    )
    return AliasTable(default, instruments)


def _lower(wanted: str | list[str]) -> tuple[str, ...]:
    return tuple(pattern.lower() for pattern in ([wanted] if isinstance(wanted, str) else wanted))


def _fill(base: Aliases, values: Mapping[str, Any]) -> Aliases:
    known = {field.name for field in fields(Aliases)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(f"The alias table names no such thing: {', '.join(unknown)}.")
    return replace(base, **{key: _freeze(key, value) for key, value in values.items()})


def _freeze(key: str, value: Any) -> Any:
    if key in ("open_slots", "missing"):
        return frozenset(text.lower() for text in value)
    if isinstance(value, list):
        return tuple(tuple(entry) if isinstance(entry, list) else entry for entry in value)
    return value
