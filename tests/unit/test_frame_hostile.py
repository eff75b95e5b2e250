"""Frames come from a network: whatever the bytes, a frame or one UnreadableFrameError, inside the limits."""

from __future__ import annotations

import bz2
import gzip
import pickle
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UnreadableFrameError
from pipeline.frame import fits as frame_fits
from pipeline.frame.fits import decode
from pipeline.frame.header import describe
from pipeline.frame.layout import walk
from pipeline.frame.sky import SkyRules
from pipeline.frame.types import DecodeLimits, Frame
from tests.unit.frame_bytes import SMALL, write, write_image, write_raw

CODES = {"empty", "not_fits", "truncated", "too_large", "bad_header", "no_image", "bad_data"}
HEADER = 2880
SKY = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 41.0, "CRPIX1": 1.0, "CRPIX2": 1.0}


def _make_seeds() -> list[bytes]:
    noise = np.random.default_rng(5).normal(500, 9, (40, 30)).astype(np.float32)
    plain = fits.PrimaryHDU(noise.astype(np.int16))
    plain.header.update({**SKY, "CDELT1": 0.001, "CDELT2": 0.001, "DATE-OBS": "2024-01-02T03:04:05", "EXPTIME": 3.0})
    seeds = [write(plain), write(fits.PrimaryHDU(), fits.ImageHDU(noise), fits.ImageHDU(noise, name="DQ"))]
    for method in ("RICE_1", "GZIP_2", "HCOMPRESS_1", "PLIO_1"):
        tiles = fits.CompImageHDU(noise.astype(np.int32), compression_type=method, tile_shape=(10, 30))
        seeds.append(write(fits.PrimaryHDU(), tiles))
    return [*seeds, gzip.compress(seeds[0]), bz2.compress(seeds[0])]


SEEDS = _make_seeds()
seeds = st.sampled_from(SEEDS)


def try_decode(payload: bytes) -> Frame | UnreadableFrameError:
    """Decode and describe; check all that must hold of either outcome."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            frame = decode(payload, name="x", limits=SMALL)
        except UnreadableFrameError as error:
            return check_refusal(error)
        row = describe(frame, SkyRules())
    assert frame.pixels.size <= SMALL.max_pixels
    assert frame.pixels.shape == frame.valid.shape == (row.height, row.width)
    assert np.isfinite(frame.pixels[frame.valid]).all()
    return frame


def check_refusal(error: UnreadableFrameError) -> UnreadableFrameError:
    assert error.code in CODES
    assert error.reason.endswith(".")
    assert "\n" not in error.reason
    return error


def test_the_seeds_are_frames() -> None:
    assert all(isinstance(try_decode(seed), Frame) for seed in SEEDS)


@given(seed=seeds, data=st.data())
def test_a_cut_anywhere_is_refused_unless_only_padding_is_lost(seed, data) -> None:
    cut = data.draw(st.integers(11, len(seed) - 1))
    outcome = try_decode(seed[:cut])
    if isinstance(outcome, Frame):
        whole = try_decode(seed)
        assert isinstance(whole, Frame)
        np.testing.assert_array_equal(outcome.pixels, whole.pixels)
    else:
        # what ends after an empty primary header, padded or not, is whole as far as anyone can tell
        assert outcome.code in ({"truncated", "no_image"} if cut <= HEADER else {"truncated"})


@given(seed=seeds, data=st.data())
@settings(max_examples=300)
def test_flipped_bytes_never_escape(seed, data) -> None:
    damaged = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(seed) - 1))] = data.draw(st.integers(0, 255))
    try_decode(bytes(damaged))


LIED_ABOUT = """SIMPLE BITPIX NAXIS NAXIS1 NAXIS2 NAXIS3 PCOUNT GCOUNT BZERO BSCALE BLANK XTENSION TFIELDS TFORM1 TTYPE1
    THEAP ZIMAGE ZBITPIX ZNAXIS ZNAXIS1 ZNAXIS2 ZTILE1 ZTILE2 ZCMPTYPE ZNAME1 ZNAME2 ZVAL1 ZVAL2 ZQUANTIZ ZDITHER0
    EXTNAME CTYPE1 CRVAL1 CDELT1 DATE-OBS"""
KEYWORDS = st.sampled_from(LIED_ABOUT.split())
LIES = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.integers(-3, 70).map(str),
    st.sampled_from(
        ["T", "F", "", "1E400", "-1.5", "NaN", "'RICE_1'", "'1PB(99)'", "'1QJ'", "'9999999999B'", "'", "(1,2)"]
    ),
)


@given(seed=st.sampled_from(SEEDS[:6]), lies=st.lists(st.tuples(KEYWORDS, LIES), min_size=1, max_size=4))
@settings(max_examples=400)
def test_lies_in_the_header_never_escape(seed, lies) -> None:
    for keyword, lie in lies:
        at = seed.rfind(keyword.ljust(8).encode() + b"= ")
        if at >= 0:
            seed = seed[:at] + f"{keyword:8}= {lie:>20}".ljust(80).encode()[:80] + seed[at + 80 :]
    try_decode(seed)


@given(rest=st.binary(max_size=4000))
def test_noise_after_a_fits_beginning_never_escapes(rest) -> None:
    try_decode(b"SIMPLE  =                    T".ljust(80) + rest)


def refuse(payload: bytes, limits: DecodeLimits = SMALL) -> UnreadableFrameError:
    with pytest.raises(UnreadableFrameError) as caught:
        decode(payload, name="x", limits=limits)
    return caught.value


def test_a_truncated_frame_is_told_with_both_numbers_and_lost_padding_is_no_loss() -> None:
    payload = write_image(np.ones((50, 50), np.int16))
    data = 2880 + 5000
    assert decode(payload[:data], name="x", limits=SMALL).valid.all()
    error = refuse(payload[: data - 1])
    assert error.code == "truncated"
    assert "5000" in error.reason
    assert "4999" in error.reason


def test_a_cut_in_a_later_unit_is_a_cut() -> None:
    payload = write(fits.PrimaryHDU(np.ones((5, 5), np.int16)), fits.ImageHDU(np.ones((50, 50), np.int16)))
    assert refuse(payload[:-2880]).code == "truncated"


def test_special_records_after_the_last_unit_are_left_alone() -> None:
    assert decode(write_image() + b"\0" * 5760, name="x", limits=SMALL).valid.all()
    assert decode(write_image() + b"vendor junk", name="x", limits=SMALL).valid.all()


@pytest.mark.parametrize(
    ("cards", "code"),
    [
        ({"NAXIS1": 10**9, "NAXIS2": 10**9}, "too_large"),
        ({"NAXIS1": 200, "NAXIS2": 200}, "truncated"),
        ({"NAXIS1": -4}, "bad_header"),
        ({"NAXIS": 999}, "bad_header"),
        ({"NAXIS": 3}, "bad_header"),
        ({"BITPIX": 12}, "bad_header"),
        ({"NAXIS1": 0}, "no_image"),
        ({"NAXIS": 0}, "no_image"),
        ({"SIMPLE": "F"}, "bad_header"),
        ({"BSCALE": "'much'"}, "bad_header"),
    ],
)
def test_each_lie_has_its_code_and_costs_no_memory(cards, code) -> None:
    payload = write_image(np.zeros((4, 4), np.int16) + 3, bscale=1.0)
    for keyword, value in cards.items():
        at = payload.find(keyword.ljust(8).encode() + b"=")
        payload = payload[:at] + f"{keyword:8}= {value:>20}".ljust(80).encode() + payload[at + 80 :]
    tracemalloc.start()
    assert refuse(payload).code == code
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_counts_of_units_and_cards_are_limited() -> None:
    many = write(fits.PrimaryHDU(np.ones((2, 2), np.int16)), *(fits.ImageHDU() for _ in range(8)))
    assert refuse(many).code == "too_large"
    assert decode(many, name="x", limits=DecodeLimits(max_hdus=9)).hdu == 0
    long = write_image(**{f"key{number}": number for number in range(600)})
    assert refuse(long).code == "too_large"
    assert decode(long, name="x", limits=DecodeLimits(max_header_cards=700)).header["KEY599"] == 599


def test_a_header_without_end_is_cut_or_too_long() -> None:
    card = b"A       = 1".ljust(80)
    start = b"SIMPLE  =                    T".ljust(80)
    assert refuse(start + card * 100).code == "truncated"
    assert refuse(start + card * 600).code == "too_large"


def test_a_bomb_in_a_tile_is_refused_before_it_opens() -> None:
    honest = fits.CompImageHDU(np.zeros((100, 100), np.int32), compression_type="GZIP_1", tile_shape=(100, 100))
    payload = write(fits.PrimaryHDU(), honest)
    assert isinstance(try_decode(payload), Frame)
    bomb = gzip.compress(b"\0" * 40_000_000)
    unit = walk(payload, SMALL)[1]
    heap = unit.data + int(unit.header["NAXIS1"])
    forged = payload[: unit.data] + len(bomb).to_bytes(4, "big") + payload[unit.data + 4 : heap] + bomb
    at = forged.find(b"PCOUNT  =")
    forged = forged[:at] + f"PCOUNT  = {len(bomb):20d}".ljust(80).encode() + forged[at + 80 :]
    tracemalloc.start()
    error = refuse(forged)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (error.code, "Tile 0" in error.reason) == ("too_large", True)
    assert peak < 4 * 2**20


def test_out_of_memory_and_the_unforeseen_become_the_one_error(monkeypatch) -> None:
    payload = write_raw(np.ones((2, 2), "i2"))
    for fault, code in ((MemoryError(), "too_large"), (RuntimeError("two\nlines"), "bad_data")):

        def fail(*_: object, fault: Exception = fault) -> None:
            raise fault

        monkeypatch.setattr(frame_fits, "walk", fail)
        error = refuse(payload)
        assert (error.code, "\n" in error.reason) == (code, False)
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own error, as it crosses from a worker
        assert (again.code, again.reason) == (error.code, error.reason)


@pytest.mark.parametrize(
    ("method", "keyword", "lie"),
    [
        ("RICE_1", "ZVAL2", "70"),
        ("RICE_1", "ZVAL1", "1000000"),
        ("RICE_1", "ZVAL2", "1.5"),
        ("RICE_1", "ZTILE1", "-1"),
        ("RICE_1", "ZTILE2", "7"),
        ("RICE_1", "ZDITHER0", "-5000"),
        ("RICE_1", "ZNAXIS2", "39"),
        ("RICE_1", "GCOUNT", "2"),
        ("HCOMPRESS_1", "ZVAL1", "1E30"),
        ("HCOMPRESS_1", "ZTILE1", "15"),
        ("PLIO_1", "TFORM1", "'1PB(200)'"),
        ("GZIP_1", "ZCMPTYPE", "'LZW'"),
    ],
)
def test_codec_settings_that_would_lead_c_code_astray_are_refused(method, keyword, lie) -> None:
    tiles = fits.CompImageHDU(np.ones((40, 30), np.int32), compression_type=method, tile_shape=(10, 30))
    payload = write(fits.PrimaryHDU(), tiles)
    at = payload.rfind(keyword.ljust(8).encode() + b"=")
    if at < 0:
        at = payload.rfind(b"END".ljust(80))
        payload = payload[:at] + b" " * 80 + b"END".ljust(80) + payload[at + 160 :]
    forged = payload[:at] + f"{keyword:8}= {lie:>20}".ljust(80).encode() + payload[at + 80 :]
    assert decode(payload, name="x", limits=SMALL).valid.all()
    start = time.process_time()
    assert refuse(forged).code in {"bad_header", "bad_data"}
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize("method", ["HCOMPRESS_1", "PLIO_1"])
def test_tiles_that_lie_about_their_own_length_are_refused(method) -> None:
    tiles = fits.CompImageHDU(np.ones((40, 30), np.int32), compression_type=method, tile_shape=(40, 30))
    payload = write(fits.PrimaryHDU(), tiles)
    unit = walk(payload, SMALL)[1]
    heap = unit.data + int(unit.header["NAXIS1"])
    assert decode(payload, name="x", limits=SMALL).valid.all()
    for place in (2, 6) if method == "HCOMPRESS_1" else (2, 6, 8):
        forged = payload[: heap + place] + b"\x7f\xff" + payload[heap + place + 2 :]
        if method == "PLIO_1" and place == 2:
            forged = payload[: heap + place] + b"\x80\x00" + payload[heap + place + 2 :]
        assert refuse(forged).code == "bad_data"
