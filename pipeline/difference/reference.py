"""What the references of a field say a frame should look like: the stack, and how well each of its pixels is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.difference.bands import list_bands
from pipeline.difference.sources import Sources
from pipeline.difference.transform import Affine

Image = NDArray[np.float32]
T = TypeVar("T", bound=np.generic)
Mask = NDArray[np.bool_]

# Float32 places an identity this far off.
_RIM_PX = 0.01


@dataclass(frozen=True, eq=False, slots=True)
class Stack:
    """Mean of registered frames on one grid, sky planes subtracted.

    Attributes:
        coefficients: of the cubic spline through the mean, float32 (height, width).
        known: pixels with enough frames.
        variance: of the mean, in its units squared.
        scatter: root mean square of the significance that the frames' own residuals had there, at least 1; all ones
            before it was measured.
        stars: light that a point-source fit at each pixel would find of its own stars.
        psf: stamp of its PSF, odd sides, sum 1.
        sources: its sources.
        psf_measured: whether its own stars gave the PSF; else it is a guess.
    """

    coefficients: Image
    known: Mask
    variance: Image
    scatter: Image
    stars: Image
    psf: Image
    sources: Sources
    psf_measured: bool = True

    def find_known(self, to_reference: Affine, shape: tuple[int, int]) -> Mask:
        """Where on a frame the stack says what to expect; arguments as for `resample`."""
        return sample_nearest(self.known, to_reference, shape, fill=False)

    def resample(self, to_reference: Affine, known: Mask) -> Image:
        """Lay the light on a frame's pixels; the frame is never resampled, so its noise stays independent.

        Args:
            to_reference: from places on the frame to places on the stack.
            known: from `find_known`, shape of the frame.

        Returns:
            Light above the sky plane, 0 where unknown; float32, shape of the frame.
        """
        light = sample_spline(self.coefficients, to_reference, (known.shape[0], known.shape[1]))
        light[~known] = 0
        return light

    def find_pixels(self, to_reference: Affine, shape: tuple[int, int], rows: slice) -> Nearest:
        """The stack's own pixels for some rows of a frame; all of a frame's would take twice its memory."""
        return find_nearest(to_reference, shape, self.known.shape, rows)


def spline_coefficients(image: Image) -> Image:
    """Coefficients of the cubic B-spline through an image (Unser 1999, IEEE Signal Proc. Mag. 16(6), 22)."""
    return np.asarray(ndimage.spline_filter(image, order=3, output=np.float32, mode="mirror"), dtype=np.float32)


def sample_spline(coefficients: Image, at: Affine, shape: tuple[int, int]) -> Image:
    """The spline at the places that the pixels of a grid are mapped to; outside, the mirror image of what is inside."""
    # ndimage counts rows first.
    matrix = np.array([[at.yy, at.yx], [at.xy, at.xx]])
    return np.asarray(
        ndimage.affine_transform(
            coefficients, matrix, (at.y0, at.x0), output_shape=shape, output=np.float32, order=3,
            mode="mirror", prefilter=False,
        ),
        dtype=np.float32,
    )  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True)
class Nearest:
    """For each pixel of a grid the pixel of an image that it is mapped to; found once, for any number of images.

    Attributes:
        place: of that pixel in the flattened image, intp, shape of the grid.
        inside: False where there is none.
    """

    place: NDArray[np.intp]
    inside: Mask

    def take(self, image: NDArray[T], *, fill: object) -> NDArray[T]:
        """The values there; `fill` where there is none."""
        taken: NDArray[T] = image.ravel().take(self.place)
        taken[~self.inside] = np.asarray(fill, dtype=image.dtype)
        return taken


def find_nearest(at: Affine, shape: tuple[int, int], of: tuple[int, ...], band: slice | None = None) -> Nearest:
    """Map the pixels of a grid, or of some of its rows, to those of an image.

    Args:
        at: from places on the grid to places on the image.
        shape: (height, width) of the grid.
        of: (height, width) of the image.
        band: rows of the grid; None for all.
    """
    first, last, _ = (band or slice(None)).indices(shape[0])
    rows, columns = np.arange(first, last, dtype=np.float32), np.arange(shape[1], dtype=np.float32)
    y = (np.float32(at.yx) * columns)[None, :] + (np.float32(at.yy) * rows + np.float32(at.y0))[:, None]
    x = (np.float32(at.xx) * columns + np.float32(at.x0))[None, :] + (np.float32(at.xy) * rows)[:, None]
    row, column = np.rint(y).astype(np.int32), np.rint(x).astype(np.int32)
    # Beyond the centre of the outermost pixel there is nothing to interpolate with.
    rim = np.float32(_RIM_PX)
    inside = (y >= -rim) & (y <= of[0] - 1 + rim) & (x >= -rim) & (x <= of[1] - 1 + rim)
    np.clip(row, 0, of[0] - 1, out=row)
    np.clip(column, 0, of[1] - 1, out=column)
    return Nearest(row.astype(np.intp) * of[1] + column, inside)


def sample_nearest(image: NDArray[T], at: Affine, shape: tuple[int, int], *, fill: object) -> NDArray[T]:
    """The nearest pixel at the places that the pixels of a grid are mapped to; `fill` outside."""
    taken = np.empty(shape, dtype=image.dtype)
    for band in list_bands(shape):
        taken[band] = find_nearest(at, shape, image.shape, band).take(image, fill=fill)
    return taken
