"""What is evaluated: a spec learns from references and says of a frame, and of each tile of it, how odd it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.robust import measure_spread
from pipeline.difference.tiles import Tile
from pipeline.frame.types import Frame

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MARK_SIGMA = 5.0
"""Robust standard deviations over the middle tile of a frame from which a tile counts as marked."""


class Comparison(Protocol):
    """One frame against the references."""

    @property
    def score(self) -> float:
        """How odd the frame is; higher is odder."""

    def rate_tiles(self, tiles: Sequence[Tile]) -> Floats:
        """How odd each tile is, (n,)."""

    def list_places(self) -> list[tuple[float, float]]:
        """Places (x, y) of points and streaks that the spec would list; none where it has no places."""

    def mark_tiles(self, tiles: Sequence[Tile]) -> Mask:
        """Tiles that the spec would point at, (n,)."""


class Knowledge(Protocol):
    """What a spec learnt from references."""

    @property
    def usual(self) -> tuple[float, ...]:
        """Score of each reference against the others; fewer than two where they do not say."""

    def compare(self, frame: Frame) -> Comparison | None:
        """Compare a frame; None where nothing says how it lies on the references."""


class Spec(Protocol):
    """A way to compare, by its name."""

    @property
    def name(self) -> str:
        """What users type."""

    @property
    def registers(self) -> bool:
        """Whether references must show the same place of the sky."""

    def learn(self, references: Sequence[Frame], *, standing: bool = False) -> Knowledge | None:
        """Learn.

        Args:
            references: at least one.
            standing: whether the camera stands still, so that pixels correspond where nothing better is known.

        Returns:
            None where the references have nothing to compare with.
        """


def mark_outstanding(scores: Floats) -> Mask:
    """Scores far above the middle one."""
    middle = float(np.median(scores))
    return np.asarray(scores > middle + MARK_SIGMA * measure_spread(scores - middle))
