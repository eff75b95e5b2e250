"""What a worker process does with one frame: bytes -> Frame -> FrameRow and vectors. Pure but for reading the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.embed.types import Embedding, NothingToEmbedError
from pipeline.errors import UnreadableFrameError
from pipeline.frame.fits import decode
from pipeline.frame.header import describe
from pipeline.frame.sky import SkyRules
from pipeline.frame.types import DecodeLimits, FrameRow


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
    """A frame that could not be decoded, and why."""

    code: str
    reason: str


def prepare_frame(path: Path, name: str, frame_id: str, plan: PreparePlan) -> Prepared | Unreadable:
    """Decode, describe and embed the bytes kept at `path`."""
    try:
        size = path.stat().st_size
        if size > plan.limits.max_bytes:
            return Unreadable("too_large", f"{size:,} bytes; the limit is {plan.limits.max_bytes:,}")
        frame = decode(path.read_bytes(), name=name, limits=plan.limits, frame_id=frame_id)
        row = describe(frame, plan.sky)
        vectors = {e.name: e.embed(frame.pixels, frame.valid) for e in plan.embeddings}
    except UnreadableFrameError as error:
        return Unreadable(error.code, error.reason)
    except NothingToEmbedError as error:
        return Prepared(row, {}, str(error))
    except MemoryError:
        return Unreadable("too_large", "decoding it took more memory than the worker limit allows")
    return Prepared(row, vectors)
