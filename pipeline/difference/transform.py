"""Places of one image in another: affine maps between pixel grids, and how to fit them to pairs of stars."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Affine:
    """x' = xx x + xy y + x0 and y' = yx x + yy y + y0, in 0-based pixels; x is the column."""

    xx: float = 1.0
    xy: float = 0.0
    x0: float = 0.0
    yx: float = 0.0
    yy: float = 1.0
    y0: float = 0.0

    def apply(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Map places; both arrays of one shape."""
        return self.xx * x + self.xy * y + self.x0, self.yx * x + self.yy * y + self.y0

    def invert(self) -> Affine:
        """The map back.

        Raises:
            ZeroDivisionError: it maps the plane to a line.
        """
        det = self.xx * self.yy - self.xy * self.yx
        xx, xy, yx, yy = self.yy / det, -self.xy / det, -self.yx / det, self.xx / det
        return Affine(xx, xy, -(xx * self.x0 + xy * self.y0), yx, yy, -(yx * self.x0 + yy * self.y0))

    def after(self, first: Affine) -> Affine:
        """The map that does `first` and then this one."""
        x0, y0 = self.apply(np.float64(first.x0), np.float64(first.y0))  # type: ignore[arg-type]
        return Affine(
            self.xx * first.xx + self.xy * first.yx,
            self.xx * first.xy + self.xy * first.yy,
            float(x0),
            self.yx * first.xx + self.yy * first.yx,
            self.yx * first.xy + self.yy * first.yy,
            float(y0),
        )

    def shift(self, dx: float, dy: float) -> Affine:
        """The same map to a grid whose origin lies at (dx, dy) of the old one's target."""
        return Affine(self.xx, self.xy, self.x0 - dx, self.yx, self.yy, self.y0 - dy)

    @property
    def scale(self) -> float:
        """Side of a mapped unit square, px per px."""
        return math.sqrt(abs(self.xx * self.yy - self.xy * self.yx))

    @property
    def rotation_deg(self) -> float:
        """Direction that the x axis is turned to, degrees from +x towards +y."""
        return math.degrees(math.atan2(self.yx - self.xy, self.xx + self.yy))

    def is_sound(self, tolerance: float = 0.02) -> bool:
        """Whether it keeps shapes: scale 1 and no shear, within a tolerance, and no mirror image."""
        upright = self.xx * self.yy - self.xy * self.yx > 0
        shear = max(abs(self.xx - self.yy), abs(self.xy + self.yx))
        return upright and abs(self.scale - 1) <= tolerance and shear <= tolerance


def fit_affine(x: Floats, y: Floats, u: Floats, v: Floats) -> Affine:
    """Least squares over pairs (x, y) -> (u, v); at least three that are not on a line."""
    middle = (float(x.mean()), float(y.mean()))
    design = np.column_stack([x - middle[0], y - middle[1], np.ones_like(x)])
    (xx, yx), (xy, yy), (x0, y0) = np.linalg.lstsq(design, np.column_stack([u, v]), rcond=None)[0].tolist()
    return Affine(xx, xy, x0 - xx * middle[0] - xy * middle[1], yx, yy, y0 - yx * middle[0] - yy * middle[1])


def fit_rigid(x: Floats, y: Floats, u: Floats, v: Floats) -> Affine:
    """Least squares with rotation and shift alone; at least two pairs.

    The best rotation of two point sets about their means in closed form (Kabsch 1976, Acta Cryst. A 32, 922).
    """
    xm, ym, um, vm = x.mean(), y.mean(), u.mean(), v.mean()
    dx, dy, du, dv = x - xm, y - ym, u - um, v - vm
    angle = math.atan2(float((dx * dv - dy * du).sum()), float((dx * du + dy * dv).sum()))
    return turn_about(angle, (float(xm), float(ym)), (float(um), float(vm)))


def turn_about(angle: float, centre: tuple[float, float], to: tuple[float, float]) -> Affine:
    """Turn by an angle in radians about one place and bring that place to another."""
    cosine, sine = math.cos(angle), math.sin(angle)
    x0, y0 = to[0] - cosine * centre[0] + sine * centre[1], to[1] - sine * centre[0] - cosine * centre[1]
    return Affine(cosine, -sine, x0, sine, cosine, y0)


def fit_shift(x: Floats, y: Floats, u: Floats, v: Floats, turn: Affine) -> Affine:
    """The median shift, keeping the rotation of a map that is known."""
    along, across = turn.apply(x, y)
    return turn.shift(-float(np.median(u - along)), -float(np.median(v - across)))
