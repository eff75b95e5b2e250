"""Protocols on tiny folders of their own: what is odd ranks high, what is not does not, and bad truth is one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from pipeline.cli.app import run
from pipeline.difference.layout import DIMENSION
from pipeline.difference.tiles import choose_channels, cut_tiles, lay_tiles
from pipeline.difference.vector import flatten, unflatten
from pipeline.errors import UsageError
from pipeline.evaluate.catalogue import find_specs
from pipeline.evaluate.differences import find_prior
from pipeline.evaluate.inject import inject, measure_optics
from pipeline.evaluate.protocols import PROTOCOLS
from pipeline.evaluate.series import SeriesPlan
from pipeline.frame.types import DecodeLimits, Frame
from pipeline.run.evaluate import evaluate_folder, list_rows, open_folder

SIGMA_PX = 1.3
SIDE = 63
NOISE = 5.0


def draw_stars(shape, stars, noise, rng):
    """Stars (x, y, light) of one PSF on a sky of 100."""
    rows, columns = np.indices(shape)
    image = np.full(shape, 100.0)
    for x, y, light in stars:
        image += light * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * SIGMA_PX**2)) / (2 * np.pi * SIGMA_PX**2)
    return image + rng.normal(0, noise, shape)


def write_frame(path, image, **cards):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 5.0, "CRPIX1": 32.0,
                          "CRPIX2": 32.0, "CD1_1": -3e-4, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 3e-4,
                          "FILTER": "r"} | cards)  # fmt: skip
    fits.PrimaryHDU(image.astype(np.float32), header).writeto(path)


def list_stars(rng, shape, count, light=(2_000, 20_000)):
    height, width = shape
    return [(rng.uniform(0, width), rng.uniform(0, height), rng.uniform(*light)) for _ in range(count)]


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory):
    """Six new sources and six stars that vary by a tenth, each with a reference."""
    folder = tmp_path_factory.mktemp("cutouts")
    rng = np.random.default_rng(11)
    lines = ["id,anomaly,kind,x,y,objectId"]
    for i in range(12):
        new = i < 6
        around = [s for s in list_stars(rng, (SIDE, SIDE), 4) if np.hypot(s[0] - 31, s[1] - 31) > 15]
        middle = [] if new else [(31, 31, 8_000)]
        now = [(31, 31, 700)] if new else [(31, 31, 8_800)]
        for part, stars in (("reference", middle), ("science", now)):
            image = draw_stars((SIDE, SIDE), [*around, *stars], NOISE, rng)
            write_frame(folder / part / f"C{i}_{part[:3]}.fits", image)
        lines.append(f"C{i},{int(new)},{'asteroid' if new else 'variable_source'},31,31,obj{i // 2}")
    lines.append("C99,,unlabelled,31,31,obj99")
    (folder / "truth.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder = tmp_path_factory.mktemp("series")
    rng = np.random.default_rng(12)
    stars = list_stars(rng, (128, 128), 30, (3_000, 60_000))
    lines = ["file,label"]
    for i in range(16):
        shift = rng.uniform(-0.5, 0.5, 2)
        moved = [(x + shift[0], y + shift[1], light) for x, y, light in stars]
        image = draw_stars((128, 128), moved, NOISE, rng)
        write_frame(folder / f"n{i:02}.fits", image)
        lines.append(f"n{i:02}.fits,normal")
    (folder / "truth.csv").write_text("\n".join([*lines, "n99.fits,cloudy"]))
    return folder


def measure(protocol, folder, specs=(), plan=None):
    found = evaluate_folder(protocol, folder, specs, plan or SeriesPlan(), lambda _: None)
    return {(m.spec, m.kind, m.metric): m for m in found}


def test_paired_finds_what_is_new_and_not_what_varies(cutouts):
    found = measure("paired", cutouts)
    for spec in ("residual", "tiles"):
        assert found[spec, "asteroid", "roc_auc"].value > 0.99
        assert found[spec, "asteroid", "recall_at_1pct"].value == 1.0
        assert found[spec, "variable_source", "roc_auc"].value < 0.8
    # Without matching, a star that varies is as new as any.
    assert found["peak", "variable_source", "roc_auc"].value > 0.9
    # Two cutouts an object.
    assert found["tiles", "asteroid", "roc_auc"].objects == 3


def test_kinds_ranks_new_light_above_light_that_varies(cutouts):
    found = measure("kinds", cutouts)
    kind = "asteroid against variable_source"
    assert found["tiles", kind, "roc_auc"].value > 0.95
    assert found["peak", kind, "roc_auc"].value < found["tiles", kind, "roc_auc"].value


def test_unpaired_comes_with_its_warning_and_without_specs_that_need_the_place(cutouts):
    found = measure("unpaired", cutouts)
    assert "never quote it alone" in found["pixels", "asteroid", "roc_auc"].note
    assert found["peak", "asteroid", "roc_auc"].value is not None
    assert found["residual", "all", "roc_auc"].value is None
    assert found["residual", "all", "roc_auc"].objects == 0


def test_a_pair_that_cannot_be_compared_counts_as_not_found(tmp_path):
    rng = np.random.default_rng(5)
    write_frame(tmp_path / "A_sci.fits", draw_stars((SIDE, SIDE), [(31, 31, 5_000)], NOISE, rng))
    write_frame(tmp_path / "A_ref.fits", np.full((SIDE, SIDE), 7.0))
    (tmp_path / "truth.csv").write_text("id,anomaly,kind\nA,1,asteroid\n")
    found = measure("paired", tmp_path, ["tiles"])["tiles", "asteroid", "roc_auc"]
    assert found.value == 0.5
    assert "1 pairs could not be compared" in found.note


@pytest.mark.parametrize("standing", [False, True])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize(
    "make",
    [
        lambda rng: draw_stars((64, 64), list_stars(rng, (64, 64), 8), NOISE, rng),
        lambda rng: draw_stars((40, 40), [], NOISE, rng),
        lambda rng: draw_stars((9, 9), [], NOISE, rng),
        lambda rng: draw_stars((17, 30), [(9, 9, 5_000)], NOISE, rng),
        lambda rng: np.where(np.arange(40)[:, None] < 20, np.nan, draw_stars((40, 40), [], NOISE, rng)),
        lambda rng: np.full((40, 40), np.nan) + 0 * rng.random(),
        lambda _: np.ones((40, 40)),
    ],
    ids=["strangers", "no-stars", "tiny", "small", "half", "nothing", "flat"],
)
def test_no_frame_is_too_odd_to_ask_about(make, count, standing):
    rng = np.random.default_rng(4)
    *references, frame = (
        Frame("x", "x", p.astype(np.float32), np.isfinite(p), {}, 0, -32) for p in (make(rng) for _ in range(count + 1))
    )
    for spec in find_specs(["residual", "tiles", "pixels", "peak"]):
        learnt = spec.learn(references, standing=standing)
        found = None if learnt is None else learnt.compare(frame)
        if found is None:
            continue
        tiles = lay_tiles(frame.pixels.shape, (3, 3))
        assert np.isfinite(found.score)
        assert np.isfinite(found.rate_tiles(tiles)).all()
        assert found.mark_tiles(tiles).shape == (9,)
        assert np.isfinite(learnt.usual).all()


def test_series_counts_false_alarms_and_finds_what_is_bright(series):
    plan = SeriesPlan(references=10, budget=0.01, ladder=(1.0, 60.0))
    found = measure("series", series, ["residual", "pixels"], plan)
    assert found["residual", "normal", "flagged"].objects == 6
    assert found["residual", "normal", "flagged"].value <= 1
    assert found["residual", "point S/N 60", "recall"].value == 1.0
    assert found["residual", "point S/N 1", "recall"].value < 0.5
    assert 1 < found["residual", "point", "snr_at_half"].value < 60
    assert found["pixels", "point S/N 60", "recall"].value < found["residual", "point S/N 60", "recall"].value
    assert found["residual", "point S/N 60", "recall_of_place"].value == 1.0
    assert found["residual", "point S/N 1", "recall_of_place"].value < 0.5
    assert found["residual", "normal", "places_per_frame"].value < 3
    assert ("pixels", "point S/N 60", "recall_of_place") not in found


def test_a_frame_that_is_flagged_as_it_is_says_nothing_of_what_is_added(series):
    plan = SeriesPlan(references=10, budget=0.999, ladder=(60.0,))
    found = measure("series", series, ["residual"], plan)
    flagged = found["residual", "normal", "flagged_share"].value
    assert flagged > 0
    assert found["residual", "point S/N 60", "recall"].value <= 1 - flagged + 1e-9


def test_masks_of_pixels_and_of_tracks(tmp_path):
    rng = np.random.default_rng(6)
    stars = [(x + rng.uniform(-3, 3), y + rng.uniform(-3, 3), 9_000) for x in (16, 48, 80) for y in (16, 48, 80)]
    lines, hit = ["file,tracks_npx_x_y,label"], (62, 65)
    for i in range(5):
        image = draw_stars((96, 96), stars, NOISE, rng)
        if i == 2:
            image[hit[1], hit[0] : hit[0] + 6] += 2_000
        write_frame(tmp_path / f"m{i}.fits", image)
        lines.append('m2.fits,"6@64,65",hit' if i == 2 else f"m{i}.fits,,normal")
    (tmp_path / "truth.csv").write_text("\n".join(lines))
    found = measure("masks", tmp_path, ["residual"])
    assert found["residual", "track", "recall_of_marks"].value == 1.0
    assert found["residual", "all", "precision_of_marks"].value > 0.3

    masked = tmp_path / "masked"
    for i in range(5):
        mask = np.zeros((96, 96))
        mask[hit[1], hit[0] : hit[0] + 6] = 5 if i == 2 else 0
        (masked / "case").mkdir(parents=True, exist_ok=True)
        (masked / "case" / f"m{i}.fits").write_bytes((tmp_path / f"m{i}.fits").read_bytes())
        write_frame(masked / "case" / f"d{i}.fits", mask)
    rows = [f"case,m{i}.fits,d{i}.fits" for i in range(5)]
    (masked / "truth.csv").write_text("\n".join(["case,file,dq", *rows]))
    found = measure("masks", masked, ["residual"])
    assert found["residual", "cosmic ray", "recall_of_marks"].value == 1.0


def test_clouds_are_farther_from_clear_than_clear_is(tmp_path):
    rng = np.random.default_rng(8)
    stars = list_stars(rng, (96, 96), 25)
    lines = ["file,label,s00,s01"]
    for i in range(6):
        image = draw_stars((96, 96), stars, NOISE, rng)
        cloudy = i >= 4
        if cloudy:
            image[:48] += 60 * np.sin(np.arange(96) / 12.0) ** 2
        write_frame(tmp_path / f"s{i}.fits", image, EXPTIME=60.0)
        lines.append(f"s{i}.fits,{'cloudy' if cloudy else 'clear'},{int(cloudy)},0")
    write_frame(tmp_path / "s9.fits", draw_stars((96, 96), stars, NOISE, rng), EXPTIME=3.0)
    lines.append("s9.fits,clear,0,0")
    (tmp_path / "truth.csv").write_text("\n".join(lines))
    found = measure("clouds", tmp_path)
    for spec in ("residual", "pixels"):
        assert found[spec, "cloudy", "roc_auc"].value == 1.0
        assert found[spec, "all", "rank_correlation"].value > 0.5
        assert "1 frames could not be compared" in found[spec, "cloudy", "roc_auc"].note


def test_simulated_reads_what_simulate_writes(tmp_path, capsys):
    night = tmp_path / "night"
    counts = ["--fields", "1", "--references", "6", "--frames", "14", "--size", "96"]
    assert run(["simulate", str(night), "--seed", "5", *counts]) == 0
    assert run(["evaluate", "simulated", str(night), "--spec", "residual", "--budget", "0.05", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["spec"] for line in lines} == {"residual"}
    found = {(line["kind"], line["metric"]): line for line in lines}
    assert 0 <= found["normal", "flagged_share"]["value"] <= 1
    assert "budget 0.05" in found["normal", "flagged_share"]["note"]
    assert ("mean of kinds", "roc_auc") in found
    assert ("supernova", "snr_at_half") in found


def test_a_table_puts_specs_side_by_side(cutouts, capsys):
    assert run(["evaluate", "paired", str(cutouts), "--spec", "peak", "--spec", "pixels"]) == 0
    out = capsys.readouterr().out
    assert out.index("peak") < out.index("pixels")
    assert "roc_auc" in out
    assert "residual" not in out


def test_what_was_measured_is_kept_where_asked(cutouts, tmp_path, capsys):
    home = tmp_path / "home"
    asked = ["evaluate", "kinds", str(cutouts), "--spec", "peak", "--store", "--json", "--home", str(home)]
    assert run(asked) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert run(["sql", "select metric, value, n_objects from evaluations", "--json", "--home", str(home)]) == 0
    kept = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted((k["metric"], k["value"]) for k in kept) == sorted((s["metric"], s["value"]) for s in said)
    assert {k["n_objects"] for k in kept} == {6}


def test_rows_have_every_column_of_the_table(cutouts):
    from pipeline.clock import now_utc  # noqa: PLC0415
    from pipeline.store.schema import EVALUATIONS  # noqa: PLC0415

    measures = evaluate_folder("kinds", cutouts, ["peak"], SeriesPlan(), lambda _: None)
    assert set(list_rows(measures, at=now_utc())[0]) == {field.name for field in EVALUATIONS.schema.fields}


BAD = [
    ("paired", "id,kind\nA,asteroid\n", "has no column 'anomaly'"),
    ("paired", "id,anomaly,kind\nA,maybe,asteroid\n", "line 2: label 'maybe'"),
    ("paired", "id,anomaly,kind,x,y\nA,1,asteroid,here,3\n", "x 'here' is not a number"),
    ("paired", "id,anomaly,kind\nA,,asteroid\n", "no row that this protocol can use"),
    ("paired", "id,anomaly,kind\nA,1,asteroid\n", "no file of that name"),
    ("paired", "", "has no column"),
    ("series", "file,label\na.fits,normal\n", "no file of that name"),
    ("masks", "file\na.fits\n", "neither a mask"),
    ("clouds", "file,label\nb.fits,cloudy\n", "two frames labelled clear"),
    ("simulated", "file,role,field,kind,label,snr\nb.fits,odd,F,x,0,\n", "role 'odd'"),
    ("simulated", "file,role,field,kind,label,snr\nb.fits,science,F,normal,0,\n", "has no reference"),
    ("series", "file,label\nb.fits,normal\n", "leave none beside 40 references"),
]


@pytest.mark.parametrize(("protocol", "truth", "said"), BAD, ids=[f"{p}-{i}" for i, (p, _, _) in enumerate(BAD)])
def test_a_bad_truth_is_one_clear_line(tmp_path, capsys, protocol, truth, said):
    write_frame(tmp_path / "b.fits", np.ones((8, 8)))
    (tmp_path / "truth.csv").write_text(truth)
    assert run(["evaluate", protocol, str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.strip().count("\n") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["paired"], "name a folder"),
        (["paired", "nowhere"], "is not a folder"),
        (["guess", "."], "no protocol is named 'guess'"),
        (["paired", ".", "--spec", "magic"], "no spec is named 'magic'"),
        (["paired", "."], "has no truth.csv"),
    ],
)
def test_wrong_use_is_one_clear_line(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    if "guess" in arguments or "magic" in arguments:
        Path("truth.csv").write_text("id,anomaly,kind\n")
    assert run(["evaluate", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.strip().count("\n") == 0


def test_an_unreadable_frame_is_named(tmp_path, capsys):
    (tmp_path / "truth.csv").write_text("id,anomaly,kind\nA,1,asteroid\n")
    for part in ("sci", "ref"):
        (tmp_path / f"A_{part}.fits").write_bytes(b"no fits at all")
    assert run(["evaluate", "paired", str(tmp_path)]) == 2
    assert "A_ref.fits" in capsys.readouterr().err


def test_two_files_of_one_name_are_not_guessed_between(tmp_path):
    for part in ("one", "two"):
        write_frame(tmp_path / part / "A_sci.fits", np.ones((8, 8)))
    (tmp_path / "truth.csv").write_text("id,anomaly,kind\nA,1,asteroid\n")
    folder = open_folder(tmp_path, DecodeLimits())
    assert folder.find("one/A_sci.fits") == "one/A_sci.fits"
    with pytest.raises(UsageError, match="2 files"):
        folder.find_stem("A_sci")


def test_injected_light_has_the_signal_to_noise_asked_for(series):
    folder = open_folder(series, DecodeLimits())
    frame = folder.read("n00.fits")
    optics = measure_optics(frame)
    rng = np.random.default_rng(1)
    for kind in ("point", "streak"):
        added = inject(optics, kind, 10.0, rng).frame.pixels.astype(np.float64) - frame.pixels
        # The matched filter over the light's own shape: sqrt(sum of squares) over the noise.
        assert np.sqrt(np.square(added).sum()) / optics.exposure.noise == pytest.approx(10.0, rel=1e-3)
        assert added.min() > -1e-3


def test_headers_say_where_one_frame_lies_on_another(tmp_path):
    for name, crpix in (("a", 32.0), ("b", 35.0)):
        write_frame(tmp_path / f"{name}.fits", np.ones((SIDE, SIDE)), CRPIX1=crpix)
    write_frame(tmp_path / "far.fits", np.ones((SIDE, SIDE)), CRVAL1=50.0)
    write_frame(tmp_path / "none.fits", np.ones((SIDE, SIDE)), CTYPE1="")
    (tmp_path / "truth.csv").write_text("")
    folder = open_folder(tmp_path, DecodeLimits())
    a, b, far, none = (folder.read(f"{name}.fits") for name in ("a", "b", "far", "none"))
    at = find_prior(a, b, standing=False)
    assert (at.x0, at.y0) == pytest.approx((3.0, 0.0), abs=1e-6)
    assert find_prior(a, far, standing=False) is None
    assert find_prior(a, none, standing=False) is None


def test_tiles_have_the_cells_that_lie_on_them():
    shape = (96, 96)
    tiles = lay_tiles(shape, (3, 3))
    assert sum((t.bottom - t.top) * (t.right - t.left) for t in tiles) == 96 * 96
    excess = np.zeros(DIMENSION - 1)
    # Point cell of row 16, column 16 of 32: pixel 48 to 51, on the tile in the middle.
    excess[16 * 32 + 16] = 15.0
    found = cut_tiles(excess, shape, tiles)
    assert [bool(v[-1] < 1) for v in found] == [i == 4 for i in range(9)]
    np.testing.assert_allclose(unflatten(found[4]).max(), 15.0, rtol=1e-5)
    assert all(np.linalg.norm(v) == pytest.approx(1, rel=1e-5) for v in found)
    np.testing.assert_allclose(unflatten(flatten(excess)), excess, atol=1e-4)


def test_streaks_tell_only_wide_tiles_apart():
    assert "streak" not in choose_channels(lay_tiles((63, 63), (3, 3)))
    assert "streak" in choose_channels(lay_tiles((512, 512), (4, 4)))


def test_every_protocol_is_named_in_the_help():
    from pipeline.cli.evaluate import evaluate  # noqa: PLC0415

    assert all(name in evaluate.__doc__ for name in PROTOCOLS)
    assert all(spec.name in evaluate.__doc__ for spec in find_specs(["residual", "tiles", "pixels", "peak"]))
