"""What goes to a worker process with a frame, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.embed.types import Embedding
from pipeline.errors import escape_unprintable
from pipeline.frame.types import DecodeLimits, FrameRow, SkyRules
from pipeline.judge.types import Detection

TOO_MANY_BYTES = "too_many_bytes"
"""Code of a file that was over the size limit: its bytes were not kept, so a new delivery is a new chance."""


@dataclass(frozen=True, slots=True)
class PreparePlan:
    """Everything a worker needs to know, sent with each frame so that it keeps no state.

    Attributes:
        index: names the models that frames are compared with, None where there are none or nobody asks.
        exposure_factor: exposures within this factor are comparable.
    """

    limits: DecodeLimits
    sky: SkyRules
    embeddings: tuple[Embedding, ...]
    index: Path | None = None
    exposure_factor: float = 2.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A described and embedded frame; the pixels stay in the worker.

    Attributes:
        row: header and quality.
        vectors: unit vectors by embedding name; empty where nothing could be embedded.
        objection: why there is no vector, or None.
        model: sha256 (hex) of the model that a vector was made with; None where none was.
        detections: what stands out against that model, strongest first.
        remark: why no model served, as the end of a sentence; empty where none is of its field.
    """

    row: FrameRow
    vectors: Mapping[str, NDArray[np.float32]]
    objection: str | None = None
    model: str | None = None
    detections: tuple[Detection, ...] = ()
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A frame that could not be decoded, and why; the reason as that of an `UnreadableFrameError`."""

    code: str
    reason: str

    def __post_init__(self) -> None:
        # The text of any exception may become a reason.
        object.__setattr__(self, "reason", escape_unprintable(self.reason))
