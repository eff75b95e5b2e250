"""What goes to a worker process with a frame, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.embed.types import Embedding
from pipeline.errors import escape_unprintable
from pipeline.frame.types import DecodeLimits, FrameRow, SkyRules

TOO_MANY_BYTES = "too_many_bytes"
"""Code of a file that was over the size limit: its bytes were not kept, so a new delivery is a new chance."""


@dataclass(frozen=True, slots=True)
class PreparePlan:
    """Everything a worker needs to know, sent with each frame so that it keeps no state."""

    limits: DecodeLimits
    sky: SkyRules
    embeddings: tuple[Embedding, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A described and embedded frame; the pixels stay in the worker.

    Attributes:
        row: header and quality.
        vectors: unit vectors by embedding name; empty where nothing could be embedded.
        objection: why there is no vector, or None.
    """

    row: FrameRow
    vectors: Mapping[str, NDArray[np.float32]]
    objection: str | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame that could not be decoded, and why; the reason as that of an `UnreadableFrameError`."""

    code: str
    reason: str

    def __post_init__(self) -> None:
        # The text of any exception may become a reason.
        object.__setattr__(self, "reason", escape_unprintable(self.reason))
