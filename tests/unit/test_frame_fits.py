from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import warnings

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.errors import UnreadableFrameError
from pipeline.frame import cards
from pipeline.frame.cards import read_cards
from pipeline.frame.fits import decode
from pipeline.frame.types import DecodeLimits
from tests.unit.frame_bytes import LIMITS, write, write_image, write_raw

KINDS = ["u1", "i2", "i4", "i8", "f4", "f8"]
UNSIGNED = {"u1": -128.0, "i2": 2.0**15, "i4": 2.0**31, "i8": 2.0**63}


def open_with_astropy(payload: bytes, unit: int = 0) -> np.ndarray:
    with warnings.catch_warnings(), fits.open(io.BytesIO(payload)) as units:
        warnings.simplefilter("ignore")
        return np.array(units[unit].data)


def refuse(payload: bytes, limits: DecodeLimits = LIMITS) -> UnreadableFrameError:
    with pytest.raises(UnreadableFrameError) as caught:
        decode(payload, name="x", limits=limits)
    return caught.value


def images(kind: str) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.dtype(kind), hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_stored_type_and_scaling_reads_as_astropy_reads_it(kind, data) -> None:
    raw = data.draw(images(kind))
    scaling = data.draw(
        st.sampled_from([{}, {"BSCALE": 1.0, "BZERO": 0.0}, {"BSCALE": 0.5, "BZERO": -3.25}, "unsigned"])
    )
    if scaling == "unsigned":
        scaling = {"BSCALE": 1.0, "BZERO": UNSIGNED.get(kind, 100.0)}
    payload = write_raw(raw, **scaling)
    frame = decode(payload, name="x", limits=LIMITS)
    with np.errstate(all="ignore"):
        # astropy itself fails on signed bytes written this way
        signed_bytes = kind == "u1" and scaling.get("BZERO") == -128
        expected = raw.astype(np.float32) - 128 if signed_bytes else open_with_astropy(payload).astype(np.float32)
    finite = np.abs(expected) < np.finfo(np.float32).max
    assert frame.pixels.dtype == np.float32
    assert frame.pixels.dtype.isnative
    np.testing.assert_array_equal(frame.pixels[finite], expected[finite])
    assert np.isnan(frame.pixels[~finite]).all()
    assert not frame.valid[~finite].any()
    assert frame.bitpix == (8 if kind == "u1" else int(kind[1]) * (8 if kind[0] == "i" else -8))


@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "i8"])
@pytest.mark.parametrize(
    "scaling", [{}, {"BSCALE": 2.0, "BZERO": 5.0}, "unsigned"], ids=["plain", "scaled", "unsigned"]
)
def test_blank_pixels_are_invalid_in_stored_units(kind, scaling) -> None:
    cards = {"BSCALE": 1.0, "BZERO": UNSIGNED[kind]} if scaling == "unsigned" else scaling
    frame = decode(write_raw(np.array([[7, 9], [9, 8]], kind), **cards, BLANK=9), name="x", limits=LIMITS)
    assert frame.valid.tolist() == [[True, False], [False, True]]
    assert np.isnan(frame.pixels).tolist() == [[False, True], [True, False]]


def test_blank_means_nothing_for_floats() -> None:
    assert decode(write_raw(np.array([[7.0, 9.0]], "f4"), BLANK=9), name="x", limits=LIMITS).valid.all()


def test_values_that_are_no_number_are_invalid_and_nan() -> None:
    frame = decode(write_raw(np.array([[1, np.nan], [np.inf, -np.inf], [1e300, 2]], "f8")), name="x", limits=LIMITS)
    assert frame.valid.tolist() == [[True, False], [False, False], [False, True]]
    assert np.isnan(frame.pixels[~frame.valid]).all()


def test_scaling_that_overflows_leaves_no_valid_infinity() -> None:
    frame = decode(write_raw(np.array([[1, 2]], "i2"), BSCALE=1e300), name="x", limits=LIMITS)
    assert not frame.valid.any()


def test_a_frame_without_a_valid_pixel_still_decodes() -> None:
    frame = decode(write_raw(np.full((3, 3), np.nan, "f4")), name="x", limits=LIMITS)
    assert (frame.pixels.shape, frame.valid.any()) == ((3, 3), False)


def test_32_bit_values_keep_the_digits_float32_has_room_for() -> None:
    payload = write_raw(np.array([[-(2**31), 2**31 - 1, -(2**31) + 70_001]], "i4"), BZERO=2.0**31, BSCALE=1.0)
    assert decode(payload, name="x", limits=LIMITS).pixels.tolist() == [[0.0, 2.0**32, 70_001.0]]


def test_identity_is_the_hash_of_the_bytes_delivered() -> None:
    plain = write_image()
    packed = gzip.compress(plain)
    assert decode(plain, name="a", limits=LIMITS).frame_id == hashlib.sha256(plain).hexdigest()
    assert decode(packed, name="b", limits=LIMITS).frame_id == hashlib.sha256(packed).hexdigest()
    assert decode(plain, name="c", limits=LIMITS, frame_id="given").frame_id == "given"


# ---- headers

VALUES = st.one_of(
    st.booleans(),
    st.integers(-(10**15), 10**15),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60),
)
KEYWORDS = st.from_regex(r"[A-Z][A-Z0-9_-]{0,7}", fullmatch=True).filter(
    lambda k: k not in {"END", "COMMENT", "HISTORY", "SIMPLE", "CONTINUE", "HIERARCH", "XTENSION"}
)


def read_with_astropy(text: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for card in fits.Header.fromstring(text).cards:
        if card.keyword not in ("COMMENT", "HISTORY", ""):
            value = card.value
            found.setdefault(card.keyword, value.rstrip() if isinstance(value, str) else value)
    return found


@given(entries=st.dictionaries(KEYWORDS, VALUES, max_size=12), comment=st.text("abc /=&", max_size=20))
def test_cards_read_as_astropy_reads_them(entries, comment) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        header = fits.Header([(keyword, value, comment) for keyword, value in entries.items()])
        text = header.tostring(endcard=False, padding=False)
        expected = read_with_astropy(text)
    read = read_cards(text.encode("ascii"))
    assert read == expected
    assert {k: type(v) for k, v in read.items()} == {k: type(v) for k, v in expected.items()}
    for keyword, value in entries.items():
        # astropy writes a float in 20 columns
        assert read[keyword] == (value.rstrip() if isinstance(value, str) else pytest.approx(value, rel=1e-12))


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("A       =                    T / yes", True),
        ("A       =                   +7", 7),
        ("A       = 1.5D3", 1500.0),
        ("A       = .5e-1 / half", 0.05),
        ("A       = 'it''s / here  ' / note", "it's / here"),
        ("A       = ''", ""),
        ("A       =", ""),
        ("A       =                      / no value", ""),
        ("A       = (1.0, 2.0)", "(1+2j)"),
        ("A       = 1.2.3", "1.2.3"),
        ("A       = 'no end", "'no end"),
        ("A       = NaN", "NaN"),
    ],
)
def test_ordinary_and_odd_values(card, value) -> None:
    read = read_cards(card.ljust(80).encode())
    assert read == {"A": value}
    assert type(read["A"]) is type(value)


def test_long_strings_and_long_keywords_survive() -> None:
    header = fits.Header()
    header["LONGTEXT"] = "x" * 70 + "'y' & " + "z" * 100
    header["HIERARCH ESO DET NAME"] = "chip 1"
    read = read_cards(header.tostring(endcard=False, padding=False).encode())
    assert read == {"LONGTEXT": "x" * 70 + "'y' & " + "z" * 100, "ESO DET NAME": "chip 1"}


def test_remarks_are_joined_first_of_a_repeated_keyword_counts_and_foreign_bytes_become_question_marks() -> None:
    lines = [b"HISTORY one", b"COMMENT a", b"HISTORY two", b"", b"A       = 1", b"A       = 2", b"B       = 'K\xf6ln'"]
    read = read_cards(b"".join(line.ljust(80) for line in lines))
    assert read == {"A": 1, "B": "K?ln", "HISTORY": "one\ntwo", "COMMENT": "a"}


def test_an_ordinary_header_never_reaches_astropy(monkeypatch) -> None:
    payload = write_image(np.zeros((2, 2), np.uint16), object="M 31", exptime=60.0, date_obs="2024-01-01T00:00:00")
    monkeypatch.setattr(cards, "_read_unusual", lambda *card: pytest.fail(f"{card} went to astropy"))
    assert decode(payload, name="x", limits=LIMITS).header["OBJECT"] == "M 31"


# ---- which unit


def test_primary_cards_are_inherited_and_the_image_s_own_win() -> None:
    primary = fits.PrimaryHDU()
    primary.header["OBJECT"], primary.header["FILTER"] = "M 31", "wrong"
    image = fits.ImageHDU(np.ones((3, 5), np.int16), name="SCI")
    image.header["FILTER"] = "r"
    frame = decode(write(primary, image), name="x", limits=LIMITS)
    assert (frame.hdu, frame.header["OBJECT"], frame.header["FILTER"]) == (1, "M 31", "r")
    assert (frame.header["NAXIS"], frame.header["NAXIS1"], "SIMPLE" in frame.header) == (2, 5, False)


def test_scaling_of_the_primary_is_not_applied_to_another_unit() -> None:
    primary = fits.PrimaryHDU()
    primary.header["BZERO"], primary.header["BLANK"] = 1000, 1
    frame = decode(write(primary, fits.ImageHDU(np.ones((2, 2), np.int16))), name="x", limits=LIMITS)
    assert frame.pixels.tolist() == [[1, 1], [1, 1]]
    assert frame.valid.all()


@pytest.mark.parametrize("name", ["UNCERT", "VARIANCE", "MASK", "DQ", "PSFIMAGE", "bpm_1", "WEIGHT", "ccd1_dq"])
def test_a_unit_that_is_no_image_of_the_sky_is_passed_over_unless_alone(name) -> None:
    other, image = (
        fits.ImageHDU(np.zeros((2, 2), np.float32) + 5, name=name),
        fits.ImageHDU(np.ones((3, 3), np.float32)),
    )
    assert decode(write(fits.PrimaryHDU(), other, image), name="x", limits=LIMITS).hdu == 2
    assert decode(write(fits.PrimaryHDU(), other), name="x", limits=LIMITS).hdu == 1


def test_tables_and_spectra_are_passed_over() -> None:
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1, 2, 3])])
    spectrum = fits.ImageHDU(np.arange(10, dtype=np.float32))
    payload = write(fits.PrimaryHDU(), table, spectrum, fits.ImageHDU(np.ones((2, 3), np.float32)))
    assert decode(payload, name="x", limits=LIMITS).hdu == 3
    assert refuse(write(fits.PrimaryHDU(), table, spectrum)).code == "no_image"


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 1, 2, 3), (2, 3, 1), (2, 1, 3)])
def test_axes_of_length_one_are_dropped(shape) -> None:
    frame = decode(write_image(np.arange(6, dtype=np.float32).reshape(shape)), name="x", limits=LIMITS)
    assert frame.pixels.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_of_a_cube_the_first_plane_is_taken() -> None:
    frame = decode(write_image(np.arange(24, dtype=np.int32).reshape(4, 2, 3)), name="x", limits=LIMITS)
    assert frame.pixels.tolist() == [[0, 1, 2], [3, 4, 5]]


# ---- tiles

NOISE = np.random.default_rng(3).normal(1000, 20, (60, 50))


METHODS = ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1", "NOCOMPRESS"]
# PLIO holds small positive integers only
TILED = [
    *itertools.product(METHODS, ["u1", "i2", "u2", "i4", "f4"]),
    *itertools.product(["PLIO_1"], ["u1", "i2", "i4"]),
]


@pytest.mark.parametrize(("method", "kind"), TILED)
def test_tile_compressed_images_read_as_astropy_reads_them(method, kind) -> None:
    pixels = (NOISE if kind != "u1" else NOISE / 10).astype(kind)
    unit = fits.CompImageHDU(pixels, compression_type=method, tile_shape=(20, 25))
    unit.header["OBJECT"], unit.header["EXPTIME"] = "M 31", 12.5
    payload = write(fits.PrimaryHDU(), unit)
    frame = decode(payload, name="x", limits=LIMITS)
    np.testing.assert_array_equal(frame.pixels, open_with_astropy(payload, 1).astype(np.float32))
    assert frame.pixels.std() > 1
    assert (frame.header["OBJECT"], frame.header["EXPTIME"], frame.header["NAXIS1"]) == ("M 31", 12.5, 50)
    assert not [k for k in frame.header if k.startswith(("TTYPE", "TFORM", "ZCMP", "ZTILE", "PCOUNT"))]


def test_nan_survives_tile_compression() -> None:
    pixels = NOISE.astype(np.float32)
    pixels[10:20, 5] = np.nan
    frame = decode(
        write(fits.PrimaryHDU(), fits.CompImageHDU(pixels, compression_type="RICE_1")), name="x", limits=LIMITS
    )
    np.testing.assert_array_equal(frame.valid, np.isfinite(pixels))


def test_warnings_stay_inside(capfd) -> None:
    bad = write_image().replace(b"EXTEND  =                    T", b"EXTEND  = maybe, but who knows")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(bad, name="x", limits=LIMITS).header["EXTEND"] == "maybe, but who knows"
    assert capfd.readouterr() == ("", "")


def test_the_largest_number_of_single_precision_is_a_fill_and_no_light():
    pixels = np.full((4, 5), 7.0, dtype=np.float32)
    pixels[1, 2], pixels[3, 0] = -np.finfo(np.float32).max, np.finfo(np.float32).max
    buffer = io.BytesIO()
    fits.PrimaryHDU(data=pixels).writeto(buffer)
    frame = decode(buffer.getvalue(), name="filled.fits", limits=DecodeLimits())
    assert not frame.valid[1, 2]
    assert not frame.valid[3, 0]
    assert frame.valid.sum() == 18
