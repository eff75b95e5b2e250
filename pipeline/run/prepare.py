"""What a worker process does with one frame: bytes -> Frame -> FrameRow and vectors. Pure but for reading the file."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from pipeline.embed.residual_spec import ResidualSpec
from pipeline.embed.types import NothingToEmbedError
from pipeline.errors import UnreadableFrameError
from pipeline.frame.fits import decode
from pipeline.frame.header import describe
from pipeline.frame.types import Frame, FrameRow
from pipeline.run.compare import Compared, compare_frame
from pipeline.run.prepared import TOO_MANY_BYTES, Prepared, PreparePlan, Unreadable

_RESIDUAL = ResidualSpec().name


def prepare_frame(path: Path, name: str, frame_id: str, plan: PreparePlan) -> Prepared | Unreadable:
    """Decode, describe and embed the bytes kept at `path`."""
    try:
        size = path.stat().st_size
        if size > plan.limits.max_bytes:
            return Unreadable(TOO_MANY_BYTES, f"{size:,} bytes; the limit is {plan.limits.max_bytes:,}")
        frame = decode(_read(path, frame_id), name=name, limits=plan.limits, frame_id=frame_id)
        row = describe(frame, plan.sky)
        vectors = {e.name: e.embed(frame.pixels, frame.valid) for e in plan.embeddings}
        compared = _compare(frame, row, plan)
    except UnreadableFrameError as error:
        return Unreadable(error.code, error.reason)
    except NothingToEmbedError as error:
        return Prepared(row, {}, str(error))
    except FileNotFoundError:
        return Unreadable("bytes_gone", "its bytes are neither where they were delivered nor kept; deliver it again")
    except MemoryError:
        return Unreadable("too_large", "decoding it took more memory than the worker limit allows")
    if compared.vector is not None:
        vectors[_RESIDUAL] = compared.vector
    return Prepared(row, vectors, None, compared.model, compared.detections, compared.remark)


def _compare(frame: Frame, row: FrameRow, plan: PreparePlan) -> Compared:
    if plan.index is None:
        return Compared()
    return compare_frame(
        frame, row, plan.index, default_radius=plan.sky.default_radius, exposure_factor=plan.exposure_factor
    )


def _read(path: Path, frame_id: str) -> bytes:
    payload = path.read_bytes()
    # Read from where it was delivered, for want of a kept copy, it may have become another frame.
    if path.name != frame_id and sha256(payload).hexdigest() != frame_id:
        raise UnreadableFrameError("bytes_gone", "the file was replaced before it was read; deliver it again")
    return payload
