"""A reference model as bytes: the same bits back, and clear words for bytes that are none."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.difference.artefact import _MAGIC, ModelError, from_bytes, to_bytes
from pipeline.difference.learn import Learnt, learn
from pipeline.difference.subtract import expose
from pipeline.simulate import plan_night, render_exposure


@pytest.fixture(scope="module")
def learnt() -> Learnt:
    plans = plan_night(3, preset="evidence", fields=1, references=6, frames=0, shape=(128, 128))
    frames = [render_exposure(plan)[0].astype(np.float32) for plan in plans]
    exposures = [expose(pixels, np.ones(pixels.shape, dtype=bool), None) for pixels in frames]
    return learn(exposures, [None] * len(exposures))


@pytest.fixture(scope="module")
def content(learnt: Learnt) -> bytes:
    return to_bytes(learnt)


def test_the_same_bits_come_back(learnt: Learnt, content: bytes):
    back = from_bytes(content)
    for name in ("coefficients", "known", "variance", "scatter", "stars", "psf"):
        before, after = getattr(learnt.stack, name), getattr(back.stack, name)
        assert before.dtype == after.dtype
        assert np.array_equal(before, after)
    assert np.array_equal(learnt.stack.sources.x, back.stack.sources.x)
    assert (learnt.detector is None) == (back.detector is None)
    assert back.usual.level == learnt.usual.level
    assert back.usual.scale == learnt.usual.scale
    assert all(np.array_equal(a, b) for a, b in zip(learnt.vectors, back.vectors, strict=True))
    assert to_bytes(back) == content


def test_members_that_were_not_registered_keep_their_place(learnt: Learnt):
    gaps = replace(learnt, vectors=(None, *learnt.vectors[1:], None), placed=(None, *learnt.placed[1:], None))
    back = from_bytes(to_bytes(gaps))
    assert [v is None for v in back.vectors] == [v is None for v in gaps.vectors]
    assert back.placed == gaps.placed
    assert np.array_equal(back.vectors[1], learnt.vectors[1])


@given(st.integers(0, 10**7), st.integers(1, 255))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_altered_bytes_are_refused(content: bytes, place: int, change: int):
    altered = bytearray(content)
    altered[place % len(altered)] ^= change
    with pytest.raises(ModelError, match="learn it anew"):
        from_bytes(bytes(altered))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_bytes_cut_short_are_refused(content: bytes, share: float):
    with pytest.raises(ModelError, match="learn it anew"):
        from_bytes(content[: int(share * len(content))])


def seal(**arrays: np.ndarray) -> bytes:
    """An archive with the digest it should have."""
    out = io.BytesIO()
    np.savez(out, **arrays)
    return _MAGIC + hashlib.sha256(out.getvalue()).digest() + out.getvalue()


def test_pickles_are_not_opened():
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("code was run",))

    sealed = seal(format=np.asarray(1), stack=np.asarray([Trap()], dtype=object))
    for content in (pickle.dumps(Trap()), sealed, b"no archive"):
        with pytest.raises(ModelError):
            from_bytes(content)


def test_another_format_is_named():
    with pytest.raises(ModelError, match="format 99"):
        from_bytes(seal(format=np.asarray(99)))
