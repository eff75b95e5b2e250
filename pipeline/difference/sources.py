"""Sources of an image, for registration and for choosing where the light is compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray

MIN_AREA = 5
THRESHOLD_SIGMA = 5.0
_MOST = 2_000
_STEPS_UP = (1.0, 4.0, 16.0, 64.0)


@dataclass(frozen=True, eq=False, slots=True)
class Sources:
    """Sources, brightest first; every array has shape (n,).

    Attributes:
        x: column of the centre, 0-based px.
        y: row of the centre.
        flux: light above the sky, in the units of the image.
        peak: highest pixel above the sky.
        size: root of the mean of the second moments along both axes, px.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    peak: NDArray[np.float64]
    size: NDArray[np.float64]

    def __len__(self) -> int:
        """How many."""
        return int(self.x.size)

    def take(self, chosen: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Sources:
        """Some of them, in the order given."""
        return Sources(self.x[chosen], self.y[chosen], self.flux[chosen], self.peak[chosen], self.size[chosen])


def list_sources(image: NDArray[np.float32], noise: float, bad: NDArray[np.bool_] | None) -> Sources:
    """Extract sources 5 sigma over the sky with at least 5 pixels (Barbary 2016, JOSS 1, 58; Bertin & Arnouts 1996).

    A frame so crowded that the extractor's buffers overflow is read at a higher threshold: its brightest sources
    are all that registration needs.

    Args:
        image: sky subtracted, float32, shape (height, width).
        noise: standard deviation of the sky, same units, above 0.
        bad: pixels not to be used.
    """
    clean = np.ascontiguousarray(image)
    for step in _STEPS_UP:
        try:
            found = sep.extract(clean, THRESHOLD_SIGMA * step, err=noise, mask=bad, minarea=MIN_AREA)
        except Exception:  # noqa: BLE001, S112 - sep raises bare Exception where a buffer is full
            continue
        order = np.argsort(-found["flux"], kind="stable")[:_MOST]
        found = found[order]
        size = np.sqrt((np.square(found["a"]) + np.square(found["b"])) / 2)
        columns = (found["x"], found["y"], found["flux"], found["peak"], size)
        return Sources(*(np.asarray(column, dtype=np.float64) for column in columns))
    return no_sources()


def no_sources() -> Sources:
    """None at all."""
    return Sources(*(np.zeros(0) for _ in range(5)))
