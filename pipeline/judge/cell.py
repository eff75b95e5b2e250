"""The references that share a prefilter, and what they say of normal distances; one of them can be left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.judge.calibration import Calibration, calibrate
from pipeline.judge.types import Neighbour

_LEAST_TO_CALIBRATE = 2


@dataclass(slots=True)
class Cell:
    """The references of one prefilter.

    Attributes:
        members: their frame ids.
        nearest_others: of each reference that calibrates, its two nearest others, nearest first: the second counts
            where the first is left out.
        vectors: float32 (d,) by frame id, as far as they were needed; shared with the cells that leave one out.
        left_out: the reference that is judged itself and so has no say here.
        saturates: whether their vectors end in a constant.
        calibration: None where fewer than two references calibrate.
    """

    members: frozenset[str]
    nearest_others: Mapping[str, tuple[Neighbour, ...]]
    vectors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    left_out: str | None = None
    saturates: bool = False
    calibration: Calibration | None = field(init=False)

    def __post_init__(self) -> None:
        """Calibrate."""
        distances = [nearest[0].distance for nearest in self.nearest_others.values() if nearest]
        self.calibration = (
            calibrate(distances, saturates=self.saturates) if len(distances) >= _LEAST_TO_CALIBRATE else None
        )

    @property
    def references(self) -> int:
        """How many references there are."""
        return len(self.members)

    def suffices(self, least: int) -> bool:
        """Whether a frame can be judged where it takes `least` references."""
        return self.calibration is not None and self.references >= least

    def leave_out_all(self, frame_ids: frozenset[str]) -> Cell:
        """The cell without these, where none of the others is compared with one of them."""
        others = {i: nearest for i, nearest in self.nearest_others.items() if i not in frame_ids}
        return Cell(self.members - frame_ids, others, self.vectors, None, self.saturates)

    def scale(self, factor: float) -> Cell:
        """The cell with all distances multiplied."""
        scaled = {
            i: tuple(Neighbour(n.frame_id, n.distance * factor) for n in nearest)
            for i, nearest in self.nearest_others.items()
        }
        return Cell(self.members, scaled, self.vectors, self.left_out, self.saturates)

    def leave_out(self, frame_id: str) -> Cell:
        """The cell without this frame, or the cell itself where the frame is none of its references."""
        if frame_id not in self.members:
            return self
        others = {
            i: tuple(n for n in nearest if n.frame_id != frame_id)
            for i, nearest in self.nearest_others.items()
            if i != frame_id
        }
        return Cell(self.members - {frame_id}, others, self.vectors, frame_id, self.saturates)
