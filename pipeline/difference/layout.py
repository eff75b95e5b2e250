"""How a residual vector is laid out: channels, their cells, and its version. Plain numbers, so that anyone may ask."""

from __future__ import annotations

FORMAT = 5
"""Of the artefact of a model and what is made with it: changes whenever an older reader would misread either."""

POINT_CELLS = (32, 32)
STREAK_CELLS = (16, 16)
SKY_CELLS = (16, 16)
LINE_CELLS = (20, 16)

AXIS_CELLS = 64
"""Groups that rows and columns are pooled into."""

WHOLE = ("width", "along", "across", "flux", "noise")
"""What is measured of a frame as a whole."""

SIZES = {
    "point": POINT_CELLS[0] * POINT_CELLS[1],
    "hole": POINT_CELLS[0] * POINT_CELLS[1],
    "sharp": POINT_CELLS[0] * POINT_CELLS[1],
    "streak": STREAK_CELLS[0] * STREAK_CELLS[1],
    "line": LINE_CELLS[0] * LINE_CELLS[1],
    "column": AXIS_CELLS,
    "row": AXIS_CELLS,
    "sky": SKY_CELLS[0] * SKY_CELLS[1],
    "cloud": SKY_CELLS[0] * SKY_CELLS[1] // 16,
    "whole": len(WHOLE),
}

NAMES = tuple(SIZES)
"""Channels in the order of the vector."""

DIMENSION = sum(SIZES.values()) + 1
"""All cells, and the constant."""
