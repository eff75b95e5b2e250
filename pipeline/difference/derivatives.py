"""An image and its derivatives: the basis in which one PSF is turned into another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.bands import list_bands

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
# The derivatives of a pixel reach two further.
_MARGIN = 2


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
    return _differ(np.pad(image, _MARGIN))


def derive_at(image: Image, places: NDArray[np.intp]) -> tuple[Image, ...]:
    """The values of the basis images at some pixels, each float32 (n,).

    Args:
        image: shape (height, width), finite.
        places: flat indices of the pixels, (n,).
    """
    row, column = np.divmod(places, image.shape[1])
    side = 2 * _MARGIN + 1
    stamps = np.zeros((side, side, places.size), dtype=np.float32)
    for down in range(side):
        for right in range(side):
            y, x = row + (down - _MARGIN), column + (right - _MARGIN)
            inside = (y >= 0) & (y < image.shape[0]) & (x >= 0) & (x < image.shape[1])
            stamps[down, right, inside] = image[y[inside], x[inside]]
    return tuple(values[0, 0] for values in _differ(stamps))


def _differ(wide: Image) -> tuple[Image, ...]:
    """The basis over the first two axes of an image with a margin, which is left out of what is returned."""
    x = (wide[2:-2, 3:-1] - wide[2:-2, 1:-3]) * np.float32(0.5)
    y = (wide[3:-1, 2:-2] - wide[1:-3, 2:-2]) * np.float32(0.5)
    inner = wide[1:-1, 1:-1]
    xx = wide[1:-1, 2:] - 2 * inner + wide[1:-1, :-2]
    yy = wide[2:, 1:-1] - 2 * inner + wide[:-2, 1:-1]
    xy = (wide[3:-1, 3:-1] - wide[3:-1, 1:-3] - wide[1:-3, 3:-1] + wide[1:-3, 1:-3]) * np.float32(0.25)
    bend = xx + yy
    fourth = bend[1:-1, 2:] + bend[1:-1, :-2] + bend[2:, 1:-1] + bend[:-2, 1:-1] - 4 * bend[1:-1, 1:-1]
    return wide[2:-2, 2:-2], x, y, xx[1:-1, 1:-1], xy, yy[1:-1, 1:-1], fourth


def design(image: Image, places: NDArray[np.intp]) -> NDArray[np.float64]:
    """The unknowns' columns at some pixels.

    Args:
        image: shape (height, width), finite.
        places: flat indices of the pixels, (n,).

    Returns:
        float64 (unknowns, n).
    """
    shape = image.shape
    row, column = np.divmod(places, shape[1])
    x, y = 2 * column / max(1, shape[1] - 1) - 1, 2 * row / max(1, shape[0] - 1) - 1
    powers = (np.ones_like(x), x, y, x * x, x * y, y * y)
    columns = []
    for term, own in zip(TERMS, derive_at(image, places), strict=True):
        values = own.astype(np.float64)
        columns += [values * power for power in powers[: _TERMS_OF_ORDER[term.order]]]
    return np.stack(columns)


def prior_widths() -> NDArray[np.float64]:
    """How far each unknown may lie from its expectation (1 for the constant flux, else 0), before any star speaks."""
    widths: list[float] = []
    for term in TERMS:
        widths += [term.width] + [term.width / 2] * (_TERMS_OF_ORDER[term.order] - 1)
    return np.asarray(widths)


def combine(image: Image, unknowns: NDArray[np.float64]) -> Image:
    """The sum of the basis images times their polynomials, float32, shape of the image.

    The basis is seven images: it is worked out for a band of rows at a time.
    """
    height, width = image.shape
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    total = np.empty(image.shape, dtype=np.float32)
    for band in list_bands(image.shape):
        above, below = min(_MARGIN, band.start), min(_MARGIN, height - band.stop)
        rows = image[band.start - above : band.stop + below]
        wide = np.pad(rows, ((_MARGIN - above, _MARGIN - below), (_MARGIN, _MARGIN)))
        total[band] = _combine_rows(_differ(wide), unknowns, x, y[band])
    return total


def _combine_rows(basis: tuple[Image, ...], unknowns: NDArray[np.float64], x: Image, y: Image) -> Image:
    total = np.zeros(basis[0].shape, dtype=np.float32)
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
