"""Angles as headers write them: decimal, or sexagesimal with colons, spaces or unit letters."""

from __future__ import annotations

import math
import re

_SEXAGESIMAL = re.compile(
    r"(?P<sign>[+-]?)\s*(?P<whole>\d{1,3})\s*(?P<unit>[:hd°]|\s)\s*(?P<minutes>\d{1,2}(?:\.\d*)?)\s*"
    r"(?:[:m'\s]\s*(?:(?P<seconds>\d{1,2}(?:\.\d*)?)\s*[s\"]?)?)?",
    re.IGNORECASE,
)
_SIXTY = 60


def is_number(value: object) -> bool:
    """Say whether a header value is a finite number; a truth value is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def parse_decimal(value: object) -> float | None:
    """Give a number, or a text that holds nothing but one, as float; else None."""
    if is_number(value):
        return float(value)  # type: ignore[arg-type]
    if not isinstance(value, str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def parse_sexagesimal(value: object) -> tuple[float, str] | None:
    """Parse `12:34:56.7`, `-00 30 00`, `12h34m56.7s` or `41d16m`.

    Returns:
        The value in units of its first field, and `h` or `d` where the text names that unit, else an empty string;
        None where the text is nothing of the kind or has 60 or more minutes or over 60 seconds.
    """
    match = _SEXAGESIMAL.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    minutes, seconds = float(match["minutes"]), float(match["seconds"] or 0)
    if minutes >= _SIXTY or seconds > _SIXTY:
        return None
    size = int(match["whole"]) + minutes / 60 + seconds / 3600
    unit = match["unit"].lower()
    return (-size if match["sign"] == "-" else size), "h" if unit == "h" else "d" if unit in "d°" else ""


def parse_degrees(value: object) -> float | None:
    """Give an angle in degrees, decimal or sexagesimal; None where it is neither or is counted in hours."""
    decimal = parse_decimal(value)
    if decimal is not None:
        return decimal
    parsed = parse_sexagesimal(value)
    return None if parsed is None or parsed[1] == "h" else parsed[0]
