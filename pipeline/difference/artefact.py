"""What references teach, as bytes and back: plain arrays, so that reading them runs no code."""

from __future__ import annotations

import hashlib
import io
from dataclasses import astuple
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.detector import Detector
from pipeline.difference.layout import DIMENSION, FORMAT, NAMES
from pipeline.difference.learn import Learnt
from pipeline.difference.reference import Stack
from pipeline.difference.sources import Sources
from pipeline.difference.transform import Affine
from pipeline.difference.vector import SIGNED, Usual
from pipeline.errors import OddframeError

_STACK = ("coefficients", "known", "variance", "scatter", "stars", "psf")
_SOURCES = ("x", "y", "flux", "peak", "size")

_MAGIC = b"oddframe reference model\n"
_DIGEST = 32
_NOWHERE = (float("nan"),) * 6


class ModelError(OddframeError):
    """Bytes that are no reference model of this version."""


def to_bytes(learnt: Learnt) -> bytes:
    """A line that names the format, the sha256 of what follows, and a compressed archive of arrays (NumPy's npz)."""
    arrays: dict[str, NDArray[Any]] = {"format": np.asarray(FORMAT)}
    arrays |= {f"stack.{name}": getattr(learnt.stack, name) for name in _STACK}
    arrays |= {f"sources.{name}": getattr(learnt.stack.sources, name) for name in _SOURCES}
    if learnt.detector is not None:
        arrays |= {"detector.pattern": learnt.detector.pattern, "detector.flawed": learnt.detector.flawed}
    arrays["usual.level"] = np.asarray([learnt.usual.level[name] for name in NAMES])
    arrays["usual.scale"] = np.asarray([learnt.usual.scale[name] for name in NAMES])
    arrays["usual.tail"] = np.asarray([learnt.usual.tail[name] for name in NAMES])
    for name in SIGNED:
        arrays[f"usual.middle.{name}"] = learnt.usual.middle[name]
        arrays[f"usual.spread.{name}"] = learnt.usual.spread[name]
    arrays["placed"] = np.asarray([_NOWHERE if at is None else astuple(at) for at in learnt.placed]).reshape(-1, 6)
    arrays["stack.psf_measured"] = np.asarray(learnt.stack.psf_measured)
    arrays["odd"] = np.asarray(learnt.odd, dtype=np.int64)
    vectors = [vector for vector in learnt.vectors if vector is not None]
    arrays["vectors"] = np.stack(vectors) if vectors else np.zeros((0, DIMENSION), dtype=np.float32)
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)  # type: ignore[arg-type]
    return _MAGIC + hashlib.sha256(out.getvalue()).digest() + out.getvalue()


def from_bytes(content: bytes) -> Learnt:
    """The inverse of `to_bytes`.

    Raises:
        ModelError: cut short, altered, of another version, or no such archive at all.
    """
    head = len(_MAGIC) + _DIGEST
    archived = content[head:]
    # Compared before anything is unpacked: what a parser makes of altered bytes is anybody's guess.
    if not content.startswith(_MAGIC) or hashlib.sha256(archived).digest() != content[len(_MAGIC) : head]:
        raise ModelError("the bytes are no reference model, or not all of it; learn it anew")
    with np.load(io.BytesIO(archived), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if name == "format"}
        if int(arrays["format"]) != FORMAT:
            raise ModelError(
                f"the model has format {int(arrays['format'])}, this version reads {FORMAT}; learn it anew"
            )
        try:
            return _read({name: archive[name] for name in archive.files})
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"the arrays of the model are not those of format {FORMAT}; learn it anew") from error


def _read(arrays: dict[str, NDArray[Any]]) -> Learnt:
    sources = Sources(*(arrays[f"sources.{name}"] for name in _SOURCES))
    measured = bool(arrays["stack.psf_measured"])
    images = {name: arrays[f"stack.{name}"] for name in _STACK}
    stack = Stack(**images, sources=sources, psf_measured=measured)
    detector = None
    if "detector.pattern" in arrays:
        detector = Detector(arrays["detector.pattern"], arrays["detector.flawed"])
    usual = Usual(
        dict(zip(NAMES, arrays["usual.level"].tolist(), strict=True)),
        dict(zip(NAMES, arrays["usual.scale"].tolist(), strict=True)),
        dict(zip(NAMES, arrays["usual.tail"].tolist(), strict=True)),
        {name: arrays[f"usual.middle.{name}"] for name in SIGNED},
        {name: arrays[f"usual.spread.{name}"] for name in SIGNED},
    )
    rows = iter(arrays["vectors"])
    placed = tuple(Affine(*at) if np.isfinite(at).all() else None for at in arrays["placed"].tolist())
    vectors = tuple(None if at is None else next(rows) for at in placed)
    if stack.coefficients.shape != stack.known.shape or arrays["vectors"].shape[1:] != (DIMENSION,):
        raise ModelError("the arrays of the model do not fit each other; learn it anew")
    return Learnt(stack, detector, usual, vectors, placed, tuple(arrays["odd"].tolist()))
