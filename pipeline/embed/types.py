"""What an embedding is: a name, a version, and a pure function from a frame to a unit vector."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import OddframeError


class NothingToEmbedError(OddframeError):
    """The frame has no valid pixel, or all are zero: there is no direction to compare."""


class Spec(Protocol):
    """What is flattened, by name and version."""

    @property
    def name(self) -> str:
        """What users type."""

    @property
    def version(self) -> str:
        """Changes whenever the numbers would change."""

    @property
    def dimension(self) -> int:
        """Length of the vector."""

    @property
    def saturates(self) -> bool:
        """Whether the vector ends in a constant, so that distances run into the root of two."""


class Embedding(Spec, Protocol):
    """A spec that can be computed from one frame alone."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the map that was flattened."""

    def embed(self, pixels: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Flatten to a float32 vector of unit length.

        Raises:
            NothingToEmbedError: no direction is defined for this frame.
        """


def to_unit(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Flatten row by row and divide by the L2 norm.

    Raises:
        NothingToEmbedError: the norm is zero or not finite.
    """
    flat = values.ravel()
    norm = float(np.sqrt(np.square(flat).sum()))
    if not np.isfinite(norm) or norm == 0.0:
        raise NothingToEmbedError("every valid pixel is zero, so the frame has no direction to compare")
    return (flat / norm).astype(np.float32)
