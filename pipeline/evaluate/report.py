"""What an evaluation says: one measure a line, and the usual measures of a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from pipeline.evaluate.bootstrap import Estimate, estimate
from pipeline.evaluate.metrics import (
    measure_auc,
    measure_average_precision,
    measure_precision,
    measure_recall,
    rank,
)


@dataclass(frozen=True, slots=True)
class Measure:
    """One number.

    Attributes:
        protocol: how it was measured.
        folder: name of the folder of frames.
        spec: what was measured.
        kind: of the odd things, with the S/N where that matters.
        metric: name of the number.
        value: None where it cannot be told.
        low: lower end of its 95 percent interval over objects; None where there is none.
        high: upper end.
        objects: distinct objects that speak.
        note: what to know of it, or empty.
    """

    protocol: str
    folder: str
    spec: str
    kind: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    objects: int
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """One line of `oddframe evaluate --json`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Heading:
    """What the measures of one spec on one folder have in common."""

    protocol: str
    folder: str
    spec: str

    def tell(self, kind: str, metric: str, found: Estimate, note: str = "") -> Measure:
        """Name an estimate."""
        ends = (found.value, found.low, found.high)
        return Measure(self.protocol, self.folder, self.spec, kind, metric, *ends, found.objects, note)

    def count(self, kind: str, metric: str, value: float, objects: int, note: str = "") -> Measure:
        """Name a count, which has no interval."""
        return Measure(self.protocol, self.folder, self.spec, kind, metric, float(value), None, None, objects, note)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was scored.

    Attributes:
        score: higher is odder.
        odd: what the truth says.
        owner: the object it belongs to.
    """

    score: float
    odd: bool
    owner: str


def describe_ranking(heading: Heading, kind: str, items: Sequence[Item], note: str = "") -> list[Measure]:
    """ROC-AUC, average precision, recall at 1 percent false alarms, and precision at as many as are odd."""
    if not items:
        return [heading.tell(kind, "roc_auc", Estimate(None, None, None, 0), note)]
    ranking = rank([item.score for item in items], [item.odd for item in items])
    owners = [item.owner for item in items]
    return [
        heading.tell(kind, "roc_auc", estimate(partial(measure_auc, ranking), owners), note),
        heading.tell(kind, "average_precision", estimate(partial(measure_average_precision, ranking), owners), note),
        heading.tell(kind, "recall_at_1pct", estimate(partial(measure_recall, ranking), owners), note),
        heading.tell(kind, "precision_at_k", estimate(partial(measure_precision, ranking), owners), note),
    ]


def tell_half(value: float | None, ladder: Sequence[float]) -> str:
    """What to know of an S/N at half recall: whether it lies within the ladder that was tried."""
    if not ladder:
        return "nothing was tried"
    if value is None:
        return f"snr_at_half is above {max(ladder):g}, the highest tried"
    return f"snr_at_half is at most {value:g}, the lowest tried" if value <= min(ladder) else ""
