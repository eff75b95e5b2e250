"""Texts that somebody may send to do harm: `tests/data/hostile_*.jsonl`, a line a text, with what it tries."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PLACE = Path(__file__).parents[1] / "data"


@dataclass(frozen=True)
class Hostile:
    """One text.

    Attributes:
        text: what is sent.
        why: what it tries.
        rows: the answer of a statement that only looks like one that does harm; None for one to be refused.
    """

    text: str
    why: str
    rows: list[list[Any]] | None = None


def load(name: str) -> list[Hostile]:
    """The texts of one file; long ones are written as a part and how often it is repeated."""
    lines = [json.loads(line) for line in (_PLACE / f"hostile_{name}.jsonl").read_text("ascii").splitlines()]
    return [Hostile(_spell(line), line["why"], line.get("rows")) for line in lines]


def _spell(line: dict[str, Any]) -> str:
    text: str = line["text"]
    times = line.get("times", 1)
    return text.replace("{}", line["fill"] * times) if "fill" in line else text * times


SQL_VALUES, SQL_STATEMENTS, FILTER_VALUES = map(load, ("sql_values", "sql_statements", "filter_values"))
