"""What references teach, as bytes and back: plain arrays, so that reading them runs no code."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.channels import NAMES
from pipeline.difference.detector import Detector
from pipeline.difference.learn import Learnt
from pipeline.difference.reference import Stack
from pipeline.difference.sources import Sources
from pipeline.difference.vector import DIMENSION, SIGNED, Usual
from pipeline.errors import OddframeError

FORMAT = 1
"""Changes whenever an older reader would misread what is written."""

_STACK = ("coefficients", "known", "variance", "scatter", "stars", "psf")
_SOURCES = ("x", "y", "flux", "peak", "size")

# What the archive, its compression and the headers of its arrays raise when they are not what they should be.
_UNREADABLE = (
    ValueError,
    LookupError,
    EOFError,
    MemoryError,
    OSError,
    TypeError,
    SyntaxError,
    OverflowError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


class ModelError(OddframeError):
    """Bytes that are no reference model of this version."""


def to_bytes(learnt: Learnt) -> bytes:
    """A compressed archive of arrays (NumPy's npz)."""
    arrays: dict[str, NDArray[Any]] = {"format": np.asarray(FORMAT)}
    arrays |= {f"stack.{name}": getattr(learnt.stack, name) for name in _STACK}
    arrays |= {f"sources.{name}": getattr(learnt.stack.sources, name) for name in _SOURCES}
    if learnt.detector is not None:
        arrays |= {"detector.pattern": learnt.detector.pattern, "detector.flawed": learnt.detector.flawed}
    arrays["usual.level"] = np.asarray([learnt.usual.level[name] for name in NAMES])
    arrays["usual.scale"] = np.asarray([learnt.usual.scale[name] for name in NAMES])
    for name in SIGNED:
        arrays[f"usual.middle.{name}"] = learnt.usual.middle[name]
        arrays[f"usual.spread.{name}"] = learnt.usual.spread[name]
    arrays["registered"] = np.asarray([vector is not None for vector in learnt.vectors])
    vectors = [vector for vector in learnt.vectors if vector is not None]
    arrays["vectors"] = np.stack(vectors) if vectors else np.zeros((0, DIMENSION), dtype=np.float32)
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def from_bytes(content: bytes) -> Learnt:
    """The inverse of `to_bytes`.

    Raises:
        ModelError: cut short, altered, of another version, or no such archive at all.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            if int(archive["format"]) != FORMAT:
                raise ModelError(
                    f"the model has format {int(archive['format'])}, this version reads {FORMAT}; learn it anew"
                )
            return _read({name: archive[name] for name in archive.files})
    except _UNREADABLE as error:
        raise ModelError(f"the bytes are no reference model ({error}); learn it anew") from error


def _read(arrays: dict[str, NDArray[Any]]) -> Learnt:
    sources = Sources(*(arrays[f"sources.{name}"] for name in _SOURCES))
    stack = Stack(**{name: arrays[f"stack.{name}"] for name in _STACK}, sources=sources)
    detector = None
    if "detector.pattern" in arrays:
        detector = Detector(arrays["detector.pattern"], arrays["detector.flawed"])
    usual = Usual(
        dict(zip(NAMES, arrays["usual.level"].tolist(), strict=True)),
        dict(zip(NAMES, arrays["usual.scale"].tolist(), strict=True)),
        {name: arrays[f"usual.middle.{name}"] for name in SIGNED},
        {name: arrays[f"usual.spread.{name}"] for name in SIGNED},
    )
    rows = iter(arrays["vectors"])
    vectors = tuple(next(rows) if registered else None for registered in arrays["registered"].tolist())
    if stack.coefficients.shape != stack.known.shape or arrays["vectors"].shape[1:] != (DIMENSION,):
        raise ModelError("the arrays of the model do not fit each other; learn it anew")
    return Learnt(stack, detector, usual, vectors)
