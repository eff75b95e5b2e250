"""Real frames of a dozen cameras: each decodes, and what its header says comes out right."""
# ruff: noqa: DTZ001 - times are naive UTC throughout, as the tables have them

from __future__ import annotations

import bz2
import csv
import gzip
import io
import warnings
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from pipeline.errors import UnreadableFrameError
from pipeline.frame.fits import decode
from pipeline.frame.header import describe
from pipeline.frame.sky import SkyRules
from pipeline.frame.types import DecodeLimits, Frame, FrameRow

LIMITS = DecodeLimits()
OPENERS = {".gz": gzip.decompress, ".bz2": bz2.decompress}


def find(folder: Path, pattern: str, at_least: int) -> list[Path]:
    files = sorted(path for path in folder.glob(pattern) if ".fit" in path.name.lower())
    assert len(files) >= at_least, f"{folder} holds {len(files)} frames"
    return files


def read(path: Path) -> tuple[Frame, FrameRow]:
    frame = decode(path.read_bytes(), name=path.name, limits=LIMITS)
    return frame, describe(frame, SkyRules())


def read_truth(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert rows
    return rows


def check_against_astropy(path: Path, frame: Frame) -> None:
    """Every pixel and every card of the image's own header as astropy reads them."""
    stored = OPENERS.get(path.suffix, bytes)(path.read_bytes())
    with warnings.catch_warnings(), fits.open(io.BytesIO(stored)) as units:
        warnings.simplefilter("ignore")
        unit = units[frame.hdu]
        expected = np.asarray(unit.data).astype(np.float32)
        np.testing.assert_array_equal(frame.pixels, np.where(np.isfinite(expected), expected, np.nan))
        for keyword, value in unit.header.items():
            if keyword in frame.header and keyword not in ("COMMENT", "HISTORY", "BSCALE", "BZERO", "XTENSION"):
                wanted = value.rstrip() if isinstance(value, str) else value
                assert isinstance(value, fits.card.Undefined) or frame.header[keyword] == wanted, keyword


@pytest.mark.parametrize(
    ("pattern", "count"),
    [
        ("header_variety/*", 12),
        ("streak/*", 1),
        ("rubin/unmodified_cutouts/*", 5),
        ("rubin/science/*", 50),
        ("dq_masks/*/*", 30),
        ("m31/*", 12),
        ("series_microobs/*", 71),
        ("allsky_clouds/*", 10),
        ("decam_crs/*", 6),
        ("ztf/science/*", 300),
    ],
)
def test_every_frame_decodes_to_what_astropy_reads(real_data, pattern, count) -> None:
    files = find(real_data, pattern, count)
    for path in files[:: max(1, len(files) // 20)]:
        frame, row = read(path)
        check_against_astropy(path, frame)
        assert row.obs_time is not None or row.obs_time_source
        assert all(note.endswith(".") for note in row.notes), row.notes


def test_every_frame_of_all_is_read_or_refused_in_one_sentence(real_data) -> None:
    refused = {}
    files = [path for path in real_data.rglob("*") if path.is_file()]
    for path in files:
        try:
            decode(path.read_bytes(), name=path.name, limits=LIMITS)
        except UnreadableFrameError as error:
            refused[path] = error
    assert len(files) - len(refused) > 800
    assert refused
    for path, error in refused.items():
        assert ".fit" not in path.name.lower(), f"{path} was refused: {error}"
        assert (error.code, error.reason[-1]) == ("not_fits", ".")


LCO = {
    "bias_kb70_20151221_bin2x2": ("2015-12-21T15:48:03.963", "kb70", "Y", 0.0, "BIAS", "2015-12-21"),
    "cpt1m010-kb70-20151219-0073-e10": ("2015-12-19T18:22:15.269", "kb70", "ip", 15.0, "EXPOSE", "2015-12-19"),
    "cpt1m010-kb70-20151219-0075-s10": ("2015-12-19T18:27:58.758", "kb70", "ip", 60.0, "STANDARD", "2015-12-19"),
    "dark_kb70_20151222_bin2x2": ("2015-12-22T04:18:10.527", "kb70", "Y", 300.0, "DARK", "2015-12-21"),
}


@pytest.mark.parametrize("name", LCO)
def test_lco_headers_compressed_or_not_say_the_same(real_data, name) -> None:
    plain, row = read(real_data / "header_variety" / f"{name}.fits")
    tiled, tiled_row = read(real_data / "header_variety" / f"{name}.fits.fz")
    when, instrument, band, seconds, kind, night = LCO[name]
    for found in (row, tiled_row):
        typed = (found.instrument, found.filter, found.exposure_s, found.image_type, found.night)
        assert typed == (instrument, band, seconds, kind, date.fromisoformat(night))
        assert found.obs_time == datetime.fromisoformat(when)
    assert (plain.hdu, tiled.hdu) == (0, 1)
    lost = plain.header.keys() - tiled.header.keys() - {"SIMPLE", "EXTEND", "BSCALE", "BZERO", "CHECKSUM", "DATASUM"}
    assert not lost
    assert row.pointing == tiled_row.pointing


def test_the_streak_s_date_is_null_and_says_why(real_data) -> None:
    (path,) = find(real_data, "streak/*", 1)
    frame, row = read(path)
    assert (frame.pixels.shape, row.obs_time, row.night) == ((512, 512), None, None)
    assert row.obs_time_source == "DATE-OBS '26/07/102' is not a date"
    assert (row.instrument, row.telescope, row.filter, row.exposure_s) == ("Apogee CCD Camera", "Ystar-SAAO", "R", 60)
    assert abs(row.pointing.ra - 232.92) < 0.05
    assert row.header["DATE-OBS"] == "26/07/102"


def test_rubin_cutouts_as_delivered_take_the_image_and_claim_no_position(real_data) -> None:
    for path in find(real_data, "rubin/unmodified_cutouts/*", 5):
        frame, row = read(path)
        assert (frame.hdu, frame.pixels.shape) == (0, (30, 30))
        assert (row.obs_time, row.pointing.source, row.pointing.zones) == (None, "none", ())
        assert row.obs_time_source.startswith("the header has no DATE-OBS")


def test_dq_masks_match_their_truth(real_data) -> None:
    for truth in read_truth(real_data / "dq_masks" / "truth.csv"):
        frame, row = read(real_data / "dq_masks" / truth["case"] / truth["file"])
        assert row.obs_time == datetime.fromisoformat(truth["date_obs"])
        assert (row.filter, row.instrument, row.object) == (truth["filter"], truth["instrument"], truth["object"])
        assert row.exposure_s == float(truth["exptime"])
        assert row.pointing.source == "wcs"
        assert abs(row.pointing.ra - float(truth["ra"])) < 0.001
        assert abs(row.pointing.dec - float(truth["dec"])) < 0.001
        assert "x".join(map(str, frame.pixels.shape)) == truth["shape"]
        assert abs(row.night - row.obs_time.date()) == timedelta(days=1)


ZERO_FILLED = {"b": 8963, "c": 9595, "d": 8140, "e": 11301, "f": 6365, "g": 11907, "h": 8075, "i": 20040, "j": 10230}


def test_m31_frames_have_utc_times_a_position_and_their_padding_left_out(real_data) -> None:
    _, row = read(real_data / "m31" / "m31a.FITS")
    assert row.obs_time == datetime(2022, 2, 21, 2, 29, 31, 239000)
    assert (row.night, row.filter, row.exposure_s) == (date(2022, 2, 20), "Clear", 60)
    assert (row.pointing.ra, row.pointing.dec) == (10.976682, 41.387006)
    assert (row.pointing.source, row.pointing.radius) == ("RA/DEC decimal degrees", None)
    for letter in "abcdefghij":
        frame, _ = read(real_data / "m31" / f"m31{letter}.FITS")
        assert np.count_nonzero(~frame.valid) == ZERO_FILLED.get(letter, 0)
        assert (frame.pixels[~frame.valid] == 0).all()
        assert (frame.pixels[frame.valid] > 0).all()


def test_the_microobservatory_series_matches_its_truth(real_data) -> None:
    for truth in read_truth(real_data / "series_microobs" / "truth.csv")[::7]:
        (path,) = (real_data / "series_microobs").glob(f"{truth['file'].split('.')[0]}*")
        frame, row = read(path)
        assert row.obs_time.replace(microsecond=0) == datetime.fromisoformat(truth["ut"])
        assert (row.filter, row.exposure_s, row.night) == (truth["filter"], float(truth["exptime"]), date(2017, 12, 19))
        assert abs(row.quality.background - float(truth["sky_median"])) <= 2
        saturated = row.quality.saturated_fraction * np.count_nonzero(frame.valid)
        assert round(saturated) == int(truth["n_saturated_4095"])


def test_all_sky_frames_have_a_time_and_no_position(real_data) -> None:
    for path in find(real_data, "allsky_clouds/*", 10)[:3]:
        frame, row = read(path)
        assert frame.pixels.shape == (1040, 1392)
        assert row.obs_time == datetime.fromisoformat(str(frame.header["DATE-OBS"]))
        assert (row.instrument, row.pointing.zones) == ("DCT_ALLSKY", ())


@pytest.mark.parametrize("survey", ["ztf", "rubin"])
def test_alert_stamps_match_their_truth(real_data, survey) -> None:
    truths = read_truth(real_data / survey / "truth.csv")
    for truth in truths[:: max(1, len(truths) // 25)]:
        (path,) = (real_data / survey / "science").glob(f"{truth['id']}_sci*")
        _, row = read(path)
        assert abs(row.obs_time - datetime.fromisoformat(truth["date"])) < timedelta(seconds=1)
        assert row.filter == truth["filter"]
        assert abs(row.pointing.ra - float(truth["ra"])) < 0.01
        assert abs(row.pointing.dec - float(truth["dec"])) < 0.01
        assert row.pointing.source == "wcs"
