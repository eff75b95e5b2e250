from __future__ import annotations

import struct
import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.picture.compare import Plate, choose_grid, compare_plates, fit_line, resample
from pipeline.picture.explain import ExplanationPanels, draw_explanation
from pipeline.picture.lettering import clean_text, fit_text, measure, wrap_text
from pipeline.picture.panel import Mark, choose_stretch
from pipeline.run.picture import explain_picture

SAMPLES = Path(__file__).resolve().parents[2] / "sample_fits"
HOSTILE = r"$\frac{1}{0}$ $x_ %n \N{} \textbf{a}" + "\x00\x1b[31m\u202egnp.exe\U0001f4a9\ud800 <b>\n\n\t" + "w" * 500


def _stars(shape: tuple[int, int] = (120, 150), seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = np.full(shape, 500.0)
    field = np.random.default_rng(7)
    for _ in range(25):
        y, x, flux = field.uniform(0, shape[0]), field.uniform(0, shape[1]), field.uniform(200, 5000)
        image += flux * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * 1.5**2))
    return image + rng.normal(0, 10, shape)


def _plate(image: np.ndarray, title: str = "a.fits") -> Plate:
    pixels = image.astype(np.float32)
    return Plate(pixels, np.isfinite(pixels), title, "2026-03-12 02:00:00 UTC, r, 60 s")


def _panels(frame: Plate | None, reference: Plate | None, **changes: Any) -> ExplanationPanels:
    mark = Mark(40.0, 50.0, 41.2, "unclassified", 6.0)
    panels = ExplanationPanels("a.fits", "anomaly", "it is far away", 1e-6, 4.8, frame, reference, (mark,))
    return replace(panels, **changes)


def _open(png: bytes) -> np.ndarray:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return np.asarray(Image.open(BytesIO(png)).convert("RGB"))


def test_picture_is_1500_pixels_wide_and_as_tall_as_the_frame_asks(tmp_path):
    file = tmp_path / "a.png"
    png = draw_explanation(_panels(_plate(_stars()), _plate(_stars(seed=2), "b.fits")), file)
    assert file.read_bytes() == png
    image = _open(png)
    assert image.shape[1] == 1500
    assert 500 < image.shape[0] < 650
    assert (image[5, 5] == 255).all(), "light background"


def test_same_input_gives_the_same_bytes():
    panels = _panels(_plate(_stars()), _plate(_stars(seed=2)))
    assert draw_explanation(panels) == draw_explanation(panels)


def test_hostile_text_is_drawn_as_text():
    plate = replace(_plate(_stars(), HOSTILE), subtitle=HOSTILE)
    panels = _panels(plate, plate, name=HOSTILE, reason=HOSTILE, status=HOSTILE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _open(draw_explanation(panels)).shape[1] == 1500
        alone = _panels(plate, None, name=HOSTILE, reason=HOSTILE, without=HOSTILE)
        assert _open(draw_explanation(alone)).shape[1] == 1500


def test_clean_text_keeps_what_can_be_read():
    assert clean_text("caf\u00e9  $x$ \u03b1", 40) == "caf\u00e9 $x$ \u03b1"
    assert clean_text("a\u202eb\x00\U0001f4a9\ud800", 40) == "a?b???"
    assert clean_text("w" * 50, 10) == "w" * 9 + "\u2026"
    assert len(clean_text(" " * 10_000 + "x", 10)) <= 10


@pytest.mark.parametrize("text", ["w" * 400, "words of a reason " * 40, HOSTILE, "", "i"])
def test_text_stays_within_its_width(text):
    lines = [fit_text(text, 2.0, 11), *wrap_text(text, 2.0, 11, 3).split("\n")]
    assert len(lines) <= 4
    assert all(measure(line, 11) <= 2.02 for line in lines)
    assert wrap_text("short words here", 0.6, 11, 5).split() == ["short", "words", "here"]


@pytest.mark.parametrize("shape", [(60, 75), (240, 300), (121, 149), (1, 1), (3, 900)])
def test_reference_of_another_shape_is_brought_to_the_frame(shape):
    png = draw_explanation(_panels(_plate(_stars()), _plate(_stars(shape))))
    assert _open(png).shape[1] == 1500
    assert compare_plates(_plate(_stars()), _plate(_stars(shape))).difference.shape == (120, 150)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 2), (2000, 1500)])
def test_any_shape_of_frame_can_be_drawn(shape):
    image = _open(draw_explanation(_panels(_plate(_stars(shape)), _plate(_stars(shape, 2)))))
    assert image.shape[0] < 1300


@pytest.mark.parametrize("value", [np.nan, 0.0, 7.0, 3e38])
def test_featureless_frames_can_be_drawn(value):
    flat = _plate(np.full((40, 50), value))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_explanation(_panels(flat, flat))
        draw_explanation(_panels(flat, _plate(_stars((40, 50)))))
        draw_explanation(_panels(_plate(_stars((40, 50))), flat))


def test_without_neighbour_one_panel_says_why():
    png = draw_explanation(_panels(_plate(_stars()), None, status="no_reference", p_value=None, without="none near"))
    right = _open(png)[300:, 1000:]
    assert (right == 255).all(), "no second or third panel"


def test_unreadable_frame_gives_a_picture_too():
    png = draw_explanation(_panels(None, None, status="unreadable", without="It was cut short."))
    assert _open(png).shape[1] == 1500


def test_marks_outside_the_frame_or_without_numbers_are_harmless():
    marks = (
        Mark(float("nan"), 3.0, 5.0, "", 1.0),
        Mark(1e9, -1e9, 1e300, "", 1e9),
        Mark(3.0, 3.0, None, "", None),
        Mark(9.0, 9.0, float("nan"), "", None),
    )
    draw_explanation(_panels(_plate(_stars()), _plate(_stars()), marks=marks))


@pytest.mark.parametrize("scale", [0.2, 1.0, 3.0])
def test_reference_is_scaled_to_the_frame_although_the_frame_is_odd(scale):
    reference = _stars(seed=2)
    frame = scale * _stars() + 50
    frame[:20] += 4000 * scale
    frame[60:64, 70:74] += 1e5
    found, level = fit_line(reference, frame)
    assert found == pytest.approx(scale, rel=0.15)
    assert level == pytest.approx(500 * (scale - found) + 50, abs=10 * scale + 5)


def test_difference_shows_the_new_source_alone():
    frame = _stars()
    frame[60:63, 70:73] += 3000
    both = compare_plates(_plate(frame), _plate(2 * _stars(seed=2)))
    assert both.difference[61, 71] > 50
    assert np.mean(np.abs(both.difference) > 6) < 0.01


def test_equal_images_differ_nowhere():
    both = compare_plates(_plate(_stars()), _plate(_stars()))
    assert np.all(both.difference == 0)
    assert both.noise == pytest.approx(10, rel=0.3)


def test_blocks_are_means_of_valid_pixels():
    image = np.arange(16.0).reshape(4, 4)
    image[0, 0] = np.nan
    image[2:, 2:] = np.nan
    cells = resample(_plate(image), (2, 2))
    assert cells[0, 0] == pytest.approx((1 + 4 + 5) / 3)
    assert np.isnan(cells[1, 1])
    assert choose_grid((2000, 1500)) == ((667, 500), 3)
    assert choose_grid((800, 10)) == ((800, 10), 1)


def test_stretch_has_two_different_levels():
    for image in (np.zeros((5, 5)), np.full((5, 5), np.nan), _stars()):
        stretch = choose_stretch(image)
        assert stretch.high > stretch.low
        assert stretch.bright >= stretch.high


class _Originals:
    def __init__(self, places: dict[str, Path]) -> None:
        self._places = places

    def locate(self, frame_id: str) -> Path | None:
        return self._places.get(frame_id)


class _Tables:
    def scan(self, *_asked: object, **_filters: object) -> pa.Table:
        row = {"frame_id": "f", "obs_time": None, "instrument": None, "filter": "r", "exposure_s": 60.0}
        return pa.Table.from_pylist([row])


def _verdict(**changes: Any) -> dict[str, Any]:
    neighbours = [{"frame_id": "r", "name": "ref.fits", "distance": 0.1}]
    verdict = {"frame_id": "f", "name": "a.fits", "status": "anomaly", "reason": "far", "p_value": 1e-5, "sigma": 4.2}
    return {**verdict, "neighbours": neighbours, **changes}


def _height(png: bytes) -> int:
    return int(struct.unpack(">II", png[16:24])[1])


def test_a_verdict_is_drawn_from_the_kept_bytes():
    frame = next((SAMPLES / "night").glob("*T020000.fits"))
    reference = next((SAMPLES / "references").glob("*T020000.fits"))
    detections = [{"x": 102.9, "y": 138.2, "sigma": 40.0, "kind": "unclassified", "size_px": 5.0, "angle_deg": None}]
    places = {"f": frame, "r": reference}
    whole = explain_picture(_Originals(places), _Tables(), _verdict(), detections)
    assert _height(whole) > 600
    gone = explain_picture(_Originals({"f": frame}), _Tables(), _verdict(), detections)
    alone = explain_picture(_Originals(places), _Tables(), _verdict(neighbours=[], status="no_reference"), [])
    assert (_open(gone)[300:, 1100:] == 255).all()
    assert (_open(alone)[300:, 1100:] == 255).all()


def test_bytes_that_are_gone_or_unreadable_are_said_in_the_picture(tmp_path):
    junk = tmp_path / "junk"
    junk.write_bytes(b"no frame")
    assert _height(explain_picture(_Originals({}), _Tables(), _verdict(), [])) < 400
    assert _height(explain_picture(_Originals({"f": junk}), _Tables(), _verdict(name=HOSTILE), [])) < 400
