"""`pixels-demo`: the resize of the demo this project started from, kept so that its numbers can be checked.

Whole frame, padding included: a Gaussian of sigma (f - 1) / 2 for a shrink factor f, then bilinear samples at cell
centres on 166 rows by 100 columns (the anti-aliased resize of scikit-image), flattened, unit length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.embed.types import to_unit


@dataclass(frozen=True, slots=True)
class PixelsDemo:
    """The demo's own preset; nothing about it is adjustable."""

    name: str = "pixels-demo"
    version: str = "1-166x100"
    grid: tuple[int, int] = (166, 100)
    saturates: bool = False

    @property
    def dimension(self) -> int:
        """16,600 values."""
        return self.grid[0] * self.grid[1]

    def embed(self, pixels: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Resize the whole frame, flatten, divide by the L2 norm.

        Args:
            pixels: float32 (height, width); NaN counts as zero.
            valid: not used: padding is part of what the demo compares.

        Returns:
            float32 (16600,), unit length.

        Raises:
            NothingToEmbedError: a zero frame.
        """
        # Loads slowly, and every command knows this preset while few compute it.
        from scipy import ndimage  # noqa: PLC0415

        del valid
        image = np.nan_to_num(pixels.astype(np.float64))
        factors = np.asarray(image.shape) / np.asarray(self.grid)
        smooth = ndimage.gaussian_filter(image, np.maximum(0.0, (factors - 1.0) / 2.0), mode="nearest")
        rows, columns = (
            (np.arange(cells) + 0.5) * length / cells - 0.5
            for length, cells in zip(image.shape, self.grid, strict=True)
        )
        return to_unit(
            ndimage.map_coordinates(smooth, np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")
        )
