"""An image and its derivatives: the basis in which one PSF is turned into another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Term:
    """One basis image and how its share may vary over the frame.

    Attributes:
        name: what it changes.
        order: highest order of the polynomial in place, 0 to 2.
        width: how far from zero its coefficient is expected, for the prior.
    """

    name: str
    order: int
    width: float


TERMS = (
    Term("flux", 1, 0.3),
    Term("x", 1, 0.3),
    Term("y", 1, 0.3),
    Term("xx", 2, 0.3),
    Term("xy", 2, 0.3),
    Term("yy", 2, 0.3),
    Term("fourth", 2, 0.2),
)
"""To second order a kernel is its flux, its shift and its second moments; the fourth moment sets how peaked it is.

The expansion of a convolution kernel in derivatives of the image is that of Alard & Lupton 1998 (ApJ 503, 325) with
the moments of the kernel, rather than Gaussians times polynomials, as unknowns.
"""

_TERMS_OF_ORDER = (1, 3, 6)


def count_unknowns() -> int:
    """Coefficients in all."""
    return sum(_TERMS_OF_ORDER[term.order] for term in TERMS)


def derive(image: Image) -> tuple[Image, ...]:
    """The basis images, in the order of `TERMS`; central differences, zero beyond the border.

    Args:
        image: shape (height, width), finite.

    Returns:
        Each float32, shape (height, width).
    """
    wide = np.pad(image, 2)
    x = (wide[2:-2, 3:-1] - wide[2:-2, 1:-3]) * np.float32(0.5)
    y = (wide[3:-1, 2:-2] - wide[1:-3, 2:-2]) * np.float32(0.5)
    inner = wide[1:-1, 1:-1]
    xx = wide[1:-1, 2:] - 2 * inner + wide[1:-1, :-2]
    yy = wide[2:, 1:-1] - 2 * inner + wide[:-2, 1:-1]
    xy = (wide[3:-1, 3:-1] - wide[3:-1, 1:-3] - wide[1:-3, 3:-1] + wide[1:-3, 1:-3]) * np.float32(0.25)
    bend = xx + yy
    fourth = bend[1:-1, 2:] + bend[1:-1, :-2] + bend[2:, 1:-1] + bend[:-2, 1:-1] - 4 * bend[1:-1, 1:-1]
    return image, x, y, xx[1:-1, 1:-1], xy, yy[1:-1, 1:-1], fourth


def design(basis: tuple[Image, ...], places: NDArray[np.intp], shape: tuple[int, int]) -> NDArray[np.float64]:
    """The unknowns' columns at some pixels.

    Args:
        basis: from `derive`.
        places: flat indices of the pixels, (n,).
        shape: (height, width).

    Returns:
        float64 (unknowns, n).
    """
    row, column = np.divmod(places, shape[1])
    x, y = 2 * column / max(1, shape[1] - 1) - 1, 2 * row / max(1, shape[0] - 1) - 1
    powers = (np.ones_like(x), x, y, x * x, x * y, y * y)
    columns = []
    for term, image in zip(TERMS, basis, strict=True):
        values = image.ravel()[places].astype(np.float64)
        columns += [values * power for power in powers[: _TERMS_OF_ORDER[term.order]]]
    return np.stack(columns)


def prior_widths() -> NDArray[np.float64]:
    """How far each unknown may lie from its expectation (1 for the constant flux, else 0), before any star speaks."""
    widths: list[float] = []
    for term in TERMS:
        widths += [term.width] + [term.width / 2] * (_TERMS_OF_ORDER[term.order] - 1)
    return np.asarray(widths)


def combine(basis: tuple[Image, ...], unknowns: NDArray[np.float64]) -> Image:
    """The sum of the basis images times their polynomials, float32, shape (height, width)."""
    height, width = basis[0].shape
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    total = np.zeros((height, width), dtype=np.float32)
    start = 0
    for term, image in zip(TERMS, basis, strict=True):
        c = np.zeros(6, dtype=np.float32)
        count = _TERMS_OF_ORDER[term.order]
        c[:count] = unknowns[start : start + count]
        start += count
        share = (c[0] + c[2] * y + c[5] * y * y) + (c[1] + c[4] * y) * x
        if term.order > 1:
            share += c[3] * x * x
        share *= image
        total += share
    return total


def combine_at_centre(basis: tuple[Image, ...], unknowns: NDArray[np.float64]) -> Image:
    """The same with every polynomial at the middle of the frame: how a PSF's stamp is turned."""
    total = np.zeros_like(basis[0])
    start = 0
    for term, image in zip(TERMS, basis, strict=True):
        total += np.float32(unknowns[start]) * image
        start += _TERMS_OF_ORDER[term.order]
    return total
