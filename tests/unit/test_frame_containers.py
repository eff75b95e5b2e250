from __future__ import annotations

import bz2
import gzip
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UnreadableFrameError
from pipeline.frame.containers import sniff, unwrap
from pipeline.frame.types import DecodeLimits
from tests.unit.frame_bytes import LIMITS, write_image

PLAIN = write_image()


def refuse(payload: bytes, limits: DecodeLimits = LIMITS) -> UnreadableFrameError:
    with pytest.raises(UnreadableFrameError) as caught:
        unwrap(payload, limits)
    return caught.value


def test_plain_fits_passes_as_the_same_object() -> None:
    assert unwrap(PLAIN, LIMITS) is PLAIN


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
@pytest.mark.parametrize("tail", [b"", b"\0" * 700], ids=["bare", "padded"])
def test_one_and_two_wrappings_open_and_a_third_is_refused(pack, tail) -> None:
    once = pack(PLAIN) + tail
    assert unwrap(once, LIMITS) == PLAIN
    assert unwrap(pack(once), LIMITS) == PLAIN
    assert refuse(pack(pack(once))).code == "not_fits"


def test_mixed_wrappings_open() -> None:
    assert unwrap(gzip.compress(bz2.compress(PLAIN)), LIMITS) == PLAIN


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
def test_members_that_follow_each_other_are_one_stream(pack) -> None:
    assert unwrap(pack(PLAIN[:1000]) + pack(PLAIN[1000:]), LIMITS) == PLAIN


@given(cut=st.integers(11, 10_000))
def test_a_cut_stream_is_truncated(cut) -> None:
    for packed in (gzip.compress(PLAIN), bz2.compress(PLAIN)):
        if cut < len(packed):
            assert refuse(packed[:cut]).code == "truncated"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
def test_a_bomb_is_refused_at_the_limit(pack) -> None:
    bomb = pack(b"\0" * 60_000_000)
    limits = DecodeLimits(max_unpacked_bytes=5_000_000)
    assert len(bomb) < 100_000
    assert refuse(bomb, limits).code == "too_large"
    assert unwrap(pack(PLAIN), limits) == PLAIN


def test_a_message_over_the_limit_is_refused_unopened() -> None:
    assert refuse(PLAIN, DecodeLimits(max_bytes=len(PLAIN) - 1)).code == "too_large"
    assert unwrap(PLAIN, DecodeLimits(max_bytes=len(PLAIN))) == PLAIN


def test_a_damaged_stream_is_bad_data() -> None:
    packed = bytearray(gzip.compress(PLAIN))
    packed[-6] ^= 0xFF
    assert refuse(bytes(packed)).code == "bad_data"


@pytest.mark.parametrize(
    ("payload", "code", "word"),
    [
        (b"\0" * 5000, "empty", "5000"),
        (b"SIMP", "truncated", "4 bytes"),
        (b"hello, this is no frame", "not_fits", "first bytes"),
        (lzma.compress(PLAIN), "not_fits", "xz"),
        (b"PK\x03\x04" + PLAIN, "not_fits", "zip"),
        (b"XTENSION= 'IMAGE   '", "not_fits", "primary"),
    ],
)
def test_what_is_no_frame_is_named(payload, code, word) -> None:
    error = refuse(payload)
    assert (error.code, word in error.reason) == (code, True)
    assert error.reason.endswith(".")


def test_names_play_no_part_in_sniffing() -> None:
    kinds = [sniff(packed) for packed in (PLAIN, gzip.compress(PLAIN), bz2.compress(PLAIN), b"")]
    assert kinds == ["fits", "gzip", "bzip2", "unknown"]
