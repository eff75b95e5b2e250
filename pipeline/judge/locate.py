"""Where two vectors of one grid differ most: the place a `pixels` verdict points at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.judge.types import Detection

_LEAST_SIGMA = 5.0
_MOST_DETECTIONS = 10


def locate_differences(
    vector: NDArray[np.float32],
    reference: NDArray[np.float32],
    grid: tuple[int, int],
    shape: tuple[int, int],
) -> tuple[Detection, ...]:
    """Connected regions of the grid where the frame exceeds or falls short of its reference by 5 sigma.

    Sigma counts the median absolute deviation of all cell differences, so it measures contrast within this frame, not
    photon noise. The place of a region is the centre of weight of its cells.

    Args:
        vector: unit vector of the frame, (rows * columns,).
        reference: unit vector of its nearest reference, same length.
        grid: rows and columns that were flattened.
        shape: height and width of the frame, pixels.

    Returns:
        At most ten, strongest first.
    """
    difference = (vector.astype(np.float64) - reference.astype(np.float64)).reshape(grid)
    difference -= np.median(difference)
    spread = 1.4826 * float(np.median(np.abs(difference)))
    if spread <= 0.0:
        return ()
    significance = np.abs(difference) / spread
    labels, count = ndimage.label(significance >= _LEAST_SIGMA, structure=np.ones((3, 3)))
    if count == 0:
        return ()
    regions = range(1, count + 1)
    peaks = np.asarray(ndimage.maximum(significance, labels, regions))
    centres = ndimage.center_of_mass(significance, labels, regions)
    areas = np.asarray(ndimage.sum_labels(np.ones(grid), labels, regions))
    cell_height, cell_width = shape[0] / grid[0], shape[1] / grid[1]
    strongest = np.argsort(-peaks, kind="stable")[:_MOST_DETECTIONS]
    return tuple(
        Detection(
            x=float((centres[i][1] + 0.5) * cell_width - 0.5),
            y=float((centres[i][0] + 0.5) * cell_height - 0.5),
            sigma=float(peaks[i]),
            kind="unclassified",
            size_px=float(np.sqrt(areas[i] * cell_height * cell_width)),
        )
        for i in strongest
    )
