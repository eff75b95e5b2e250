"""Which normal frames become references by rule: old enough, usual enough, and no more of them than a cell needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class PromotionRule:
    """What it takes.

    Attributes:
        days: since the observation: what turns out odd later must have had its time to do so.
        most: references of a cell; none is added beyond.
        least_p: every newest verdict must have a p-value of at least this.
    """

    days: float
    most: int
    least_p: float


@dataclass(frozen=True, slots=True)
class Place:
    """What a cell is made of: instrument, filter band, zone and exposure in seconds; None is unknown."""

    instrument: str | None
    filter_band: str | None
    zone: int | None
    exposure_s: float | None

    def compares(self, other: Place, factor: float) -> bool:
        """Whether another frame is of the cell of this one: exposures within the factor, unknown with unknown."""
        if (self.instrument, self.filter_band, self.zone) != (other.instrument, other.filter_band, other.zone):
            return False
        if self.exposure_s is None or other.exposure_s is None:
            return self.exposure_s is other.exposure_s
        return self.exposure_s / factor <= other.exposure_s <= self.exposure_s * factor


@dataclass(frozen=True, slots=True)
class Candidate:
    """A frame that every newest verdict calls normal; `p_value` is the least of these, of the verdict named."""

    frame_id: str
    name: str
    place: Place
    obs_time: datetime
    p_value: float
    verdict_id: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """A frame that becomes a reference, and how many references its cell has before it."""

    candidate: Candidate
    in_cell: int


def choose_promotions(
    candidates: Iterable[Candidate], held: Iterable[Place], rule: PromotionRule, *, factor: float, now: datetime
) -> list[Promotion]:
    """Those that join, earliest observation first, until their cells are full.

    Args:
        candidates: none of them a reference, now or ever.
        held: of the references there are.
        rule: what it takes.
        factor: exposures within it are comparable.
        now: UTC, as the observation times are.
    """
    by_sky: dict[tuple[str | None, str | None, int | None], list[Place]] = {}
    for place in held:
        by_sky.setdefault(_sky_of(place), []).append(place)
    chosen: list[Promotion] = []
    for one in sorted(candidates, key=lambda c: (c.obs_time, c.frame_id)):
        if one.p_value < rule.least_p or measure_age(one.obs_time, now) < rule.days:
            continue
        near = by_sky.setdefault(_sky_of(one.place), [])
        in_cell = count_comparable(one.place, near, factor)
        if in_cell < rule.most:
            chosen.append(Promotion(one, in_cell))
            near.append(one.place)
    return chosen


def count_comparable(place: Place, others: Sequence[Place], factor: float) -> int:
    """How many of the others are of the cell of this one."""
    return sum(place.compares(other, factor) for other in others)


def measure_age(obs_time: datetime, now: datetime) -> float:
    """Days since the observation."""
    return (now - obs_time).total_seconds() / 86_400


def _sky_of(place: Place) -> tuple[str | None, str | None, int | None]:
    return place.instrument, place.filter_band, place.zone
