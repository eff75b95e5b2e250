"""What a judgement is made of."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """The five things that can be said of a frame."""

    NORMAL = "normal"
    ANOMALY = "anomaly"
    NO_REFERENCE = "no_reference"
    NOT_SEARCHED = "not_searched"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A reference and its L2 distance (the root) from the judged frame."""

    frame_id: str
    distance: float


@dataclass(frozen=True, slots=True)
class PValue:
    """Chance that a normal frame of this cell lies at least this far from its nearest reference.

    Attributes:
        value: in (0, 1].
        extrapolated: True where it lies below 1/(n+1), i.e. comes from the fitted tail and not from counting.
    """

    value: float
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """The pure part of a verdict: what distance, calibration and rules say of one frame.

    `threshold` is the distance at which the p-value meets the budget; `sigma` the same p-value as standard
    deviations of a normal distribution, one-sided.
    """

    status: Status
    reason: str
    neighbours: tuple[Neighbour, ...] = ()
    distance: float | None = None
    p_value: PValue | None = None
    sigma: float | None = None
    threshold: float | None = None
    references_in_cell: int = 0


@dataclass(frozen=True, slots=True)
class Detection:
    """One place in a frame; x and y are 0-based pixels, the centre of the first pixel is 0.

    Attributes:
        x: column.
        y: row.
        sigma: height above the frame's own scatter from its nearest reference.
        kind: what it looks like; `unclassified` where the method cannot tell.
        size_px: how far it reaches along its longest side, pixels.
        angle_deg: direction of its longest side, from +x towards +y, 0 to 180; None where it has none.
    """

    x: float
    y: float
    sigma: float
    kind: str
    size_px: float
    angle_deg: float | None = None
