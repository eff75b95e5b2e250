from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy_healpix.core import lonlat_to_healpix
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frame import sky as sky_room
from pipeline.frame.aliases import load_aliases
from pipeline.frame.sky import SkyRules, find_pointing
from pipeline.frame.types import Pointing

DEFAULT = load_aliases().default
RULES = SkyRules()
WCS_CARDS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.1, "CRVAL2": 2.2, "CRPIX1": 10.0, "CRPIX2": 90.0}
WCS_CARDS |= {"CD1_1": -3e-4, "CD1_2": 1e-5, "CD2_1": 2e-5, "CD2_2": 3e-4}


def look(header: dict, shape=(100, 120), rules=RULES, aliases=DEFAULT) -> tuple[Pointing, list[str]]:
    notes: list[str] = []
    return find_pointing(header, shape, rules, aliases, notes), notes


@pytest.mark.parametrize(
    ("ra", "dec", "expected", "source"),
    [
        (10.976682, 41.387006, (10.976682, 41.387006), "RA/DEC decimal degrees"),
        ("10.976682", "41.387006", (10.976682, 41.387006), "RA/DEC decimal degrees"),
        ("12:30:00", "-00:30:00", (187.5, -0.5), "RA sexagesimal hours"),
        (" 15:28:35.7", " -0:00:36.0", (232.14875, -0.01), "RA sexagesimal hours"),
        ("12 30 00", "+10 06", (187.5, 10.1), "RA sexagesimal hours"),
        ("12h30m00s", "-10d06m00s", (187.5, -10.1), "RA sexagesimal hours"),
        ("187d30m00s", "5", (187.5, 5.0), "RA sexagesimal degrees"),
        ("187:30:00", "5", (187.5, 5.0), "RA sexagesimal degrees"),
        (360.0, 0, (0.0, 0.0), "RA/DEC decimal degrees"),
    ],
)
def test_positions_in_every_spelling(ra, dec, expected, source) -> None:
    pointing, notes = look({"RA": ra, "DEC": dec})
    assert (pointing.ra, pointing.dec) == pytest.approx(expected, abs=1e-9)
    assert (pointing.source, pointing.radius, notes) == (source, None, [])


@pytest.mark.parametrize(
    ("ra", "dec"),
    [(400.0, 0.0), (-1.0, 0.0), (10.0, 90.1), ("12:60:00", "0"), ("-12:30:00", "0"), ("12:30:00", "5h00m"), ("x", "1"),
     (True, 1.0), ("500:00:00", "0")],
)  # fmt: skip
def test_what_is_no_position_is_null_with_a_note(ra, dec) -> None:
    pointing, notes = look({"RA": ra, "DEC": dec})
    assert (pointing.ra, pointing.dec, pointing.zone, pointing.zones) == (None, None, None, ())
    assert len(notes) == 1
    assert notes[0].endswith("is not a position on the sky.")


@pytest.mark.parametrize(
    "pair", [("OBJCTRA", "OBJCTDEC"), ("TELRA", "TELDEC"), ("RA_OBJ", "DEC_OBJ"), ("CAT-RA", "CAT-DEC")]
)
def test_other_keywords_serve_where_ra_does_not(pair) -> None:
    pointing, _ = look({"RA": "NaN", "DEC": "NaN", pair[0]: "00 42 44", pair[1]: "+41 16 09"})
    assert (pointing.ra, pointing.dec) == pytest.approx((10.68333, 41.26917), abs=1e-4)
    assert pointing.source == f"{pair[0]} sexagesimal hours"


def test_instruments_that_write_other_units_are_known_by_their_table() -> None:
    hours, degrees = replace(DEFAULT, ra_decimal_hours=True), replace(DEFAULT, ra_sexagesimal_degrees=True)
    assert look({"RA": 12.5, "DEC": 1.0}, aliases=hours)[0].ra == 187.5
    assert look({"RA": "12:30:00", "DEC": 1.0}, aliases=degrees)[0].ra == 12.5


def test_a_reference_value_without_ctype_is_no_position() -> None:
    header = {key: value for key, value in WCS_CARDS.items() if not key.startswith("CTYPE")}
    assert look(header)[0].source == "none"
    assert look(header | {"CTYPE1": "", "CTYPE2": " "}) == look({})


def read_with_astropy(header: dict, shape: tuple[int, int]) -> SkyCoord:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return WCS(fits.Header(list(header.items()))).pixel_to_world((shape[1] - 1) / 2, (shape[0] - 1) / 2).icrs


@given(
    lon=st.floats(0, 359.99), lat=st.floats(-89.9, 89.9), scale=st.floats(1e-5, 0.02), turn=st.floats(0, 6.28),
    projection=st.sampled_from(["TAN", "SIN", "ZEA", "STG"]),
)  # fmt: skip
def test_the_centre_is_where_astropy_puts_it(lon, lat, scale, turn, projection) -> None:
    c, s = scale * math.cos(turn), scale * math.sin(turn)
    header = WCS_CARDS | {"CTYPE1": f"RA---{projection}", "CTYPE2": f"DEC--{projection}", "CRVAL1": lon, "CRVAL2": lat}
    header |= {"CD1_1": -c, "CD1_2": s, "CD2_1": s, "CD2_2": c}
    pointing, notes = look(header)
    expected = read_with_astropy(header, (100, 120))
    assert (pointing.source, notes) == ("wcs", [])
    found = SkyCoord(pointing.ra * units.deg, pointing.dec * units.deg)
    assert found.separation(expected).arcsec < 1e-3
    assert pointing.radius == pytest.approx(scale * math.hypot(100, 120) / 2, rel=0.15)


def test_sip_and_tpv_distortions_count() -> None:
    sip = WCS_CARDS | {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-3}
    tpv = WCS_CARDS | {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 1.01, "PV2_1": 1.0, "PV1_0": 0.001}
    plain = look(WCS_CARDS)[0]
    for header in (sip, tpv):
        pointing = look(header)[0]
        expected = read_with_astropy(header, (100, 120))
        assert (pointing.ra, pointing.dec) == pytest.approx((expected.ra.deg, expected.dec.deg), abs=1e-6)
        assert abs(pointing.ra - plain.ra) > 1e-5


def test_swapped_axes_and_galactic_frames_end_as_icrs() -> None:
    swapped = WCS_CARDS | {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 2.2, "CRVAL2": 150.1}
    galactic = WCS_CARDS | {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CRVAL1": 121.17, "CRVAL2": -21.57}
    for header in (swapped, galactic):
        pointing = look(header)[0]
        expected = read_with_astropy(header, (100, 120))
        assert (pointing.ra, pointing.dec) == pytest.approx((expected.ra.deg, expected.dec.deg), abs=1e-5)


def test_old_equinoxes_are_precessed() -> None:
    header = {"RA": "00:40:00", "DEC": "+41:00:00", "EQUINOX": 1950.0}
    expected = SkyCoord("00h40m00s", "+41d00m00s", frame="fk4", equinox="B1950").icrs
    pointing = look(header)[0]
    assert (pointing.ra, pointing.dec) == pytest.approx((expected.ra.deg, expected.dec.deg), abs=1e-6)
    assert look({"RA": 10.0, "DEC": 41.0, "EPOCH": 2016.1})[0].ra == 10.0


@pytest.mark.parametrize(
    "broken",
    [{"CD1_1": 0.0, "CD2_1": 0.0}, {"CTYPE1": "RA---XXX"}, {"CRVAL1": "here"}, {"CUNIT1": "parsec"}, {"CRVAL2": 400.0}],
)
def test_a_wcs_that_cannot_be_used_is_noted_and_the_keywords_serve(broken) -> None:
    pointing, notes = look(WCS_CARDS | {"RA": 10.0, "DEC": 41.0} | broken)
    assert (pointing.ra, pointing.source) == (10.0, "RA/DEC decimal degrees")
    assert len(notes) == 1
    assert "WCS" in notes[0]


def test_no_ctype_means_no_wcs_work(monkeypatch) -> None:
    monkeypatch.setattr("pipeline.frame.footprint.Wcsprm", lambda *_: pytest.fail("wcslib was called"))
    assert look({"RA": 10.0, "DEC": 41.0})[0].ra == 10.0


@given(ra=st.floats(0, 359.99), dec=st.floats(-90, 90), reach=st.floats(0.001, 40), data=st.data())
def test_zones_hold_every_cell_of_the_cone(ra, dec, reach, data) -> None:
    order = data.draw(st.integers(0, 8))
    pointing, _ = look({"RA": ra, "DEC": dec}, rules=SkyRules(order=order, default_radius=reach))
    centre = SkyCoord(ra * units.deg, dec * units.deg)
    angles = np.random.default_rng(0).uniform(0, 360, 200) * units.deg
    near = centre.directional_offset_by(angles, np.linspace(0, reach, 200) * units.deg)
    cells = lonlat_to_healpix(near.ra, near.dec, 2**order, order="nested")
    assert set(cells.tolist()) <= set(pointing.zones)
    assert pointing.zone in pointing.zones
    assert list(pointing.zones) == sorted(set(pointing.zones))
    assert 0 <= pointing.zones[0] <= pointing.zones[-1] < 12 * 4**order


def test_a_centre_on_a_border_of_cells_has_those_on_either_side() -> None:
    pointing, _ = look({"RA": 0.0, "DEC": 50.0}, rules=SkyRules(order=2, default_radius=4.0))
    assert {10, 11, 53, 55} <= set(pointing.zones)


def test_zones_of_a_small_footprint_are_few_and_of_neighbours_overlap() -> None:
    inside = look(WCS_CARDS)[0]
    assert len(inside.zones) <= 4
    row = [look({"RA": 10 + step / 20, "DEC": 41.0})[0] for step in range(60)]
    left, right = next(pair for pair in itertools.pairwise(row) if pair[0].zone != pair[1].zone)
    assert {left.zone, right.zone} <= set(left.zones) & set(right.zones)


def test_the_whole_sky_is_searched_in_coarse_cells() -> None:
    cells = sky_room._search_cone(10.0, 41.0, 180.0, 6)
    assert sorted(cells) == list(range(12 * 4**6))
