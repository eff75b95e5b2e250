"""Distances, p-values, verdicts: what must hold of them whatever the references look like."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.embed.pixels import Pixels
from pipeline.frame.types import FrameRow, Pointing, Quality
from pipeline.judge.calibration import calibrate, to_sigma
from pipeline.judge.cell import Cell
from pipeline.judge.distance import rank_neighbours
from pipeline.judge.locate import locate_differences
from pipeline.judge.prefilter import SearchRules
from pipeline.judge.types import Neighbour, Status
from pipeline.judge.verdict import judge_frame
from pipeline.judge.wider import draw_partners, measure_spread
from pipeline.run.detect import Judge
from pipeline.run.lake import JudgeRules, spec_of
from pipeline.run.prepared import Prepared
from pipeline.run.rows import entity_of
from tests.fakes.vectors import MemoryVectors

distances = st.lists(st.floats(1e-4, 2.0), min_size=2, max_size=250)
asked = st.floats(0.0, 3.0)
budgets = st.one_of(st.floats(1e-6, 0.49), st.sampled_from([0.01, 0.05, 0.1, 0.29, 0.07, 1 / 3, 1e-9]))


@given(distances, asked)
def test_a_p_value_is_more_than_nothing_and_at_most_one(references, distance):
    p = calibrate(references).rate(distance)
    assert 0.0 < p.value <= 1.0
    assert math.isfinite(p.value)


@given(distances, asked, asked)
def test_farther_is_never_more_usual(references, one, other):
    calibration = calibrate(references)
    near, far = sorted((one, other))
    assert calibration.rate(near).value >= calibration.rate(far).value


@given(distances, asked)
def test_without_a_word_of_it_no_p_value_lies_below_what_counting_can_show(references, distance):
    p = calibrate(references).rate(distance)
    assert p.extrapolated == (p.value < 1 / (len(references) + 1))
    if distance <= max(references):
        assert not p.extrapolated


@given(distances, asked, budgets)
@settings(max_examples=400)
def test_the_threshold_is_where_the_p_value_meets_the_budget(references, distance, budget):
    calibration = calibrate(references)
    threshold = calibration.find_threshold(budget)
    # The tail's inverse is right to a few digits less than a float holds.
    assume(abs(distance - threshold) > 1e-9 * max(threshold, 1e-3))
    assert (calibration.rate(distance).value <= budget) == (distance >= threshold)


@given(st.lists(st.floats(1e-4, 1.0), min_size=2, max_size=60), budgets)
@settings(max_examples=300)
def test_the_threshold_itself_is_odd_where_counting_decides(references, budget):
    calibration = calibrate(references)
    threshold = calibration.find_threshold(budget)
    if math.floor(budget * (len(references) + 1)) >= 1:
        assert calibration.rate(threshold).value <= budget * (1 + 1e-12)


@given(st.lists(st.floats(1e-3, 1.0), min_size=2, max_size=60), st.floats(1e-3, 1.0), st.floats(0.01, 50.0))
def test_only_the_ratio_of_distances_counts(references, distance, scale):
    one = calibrate(references).rate(distance)
    assume(all(abs(distance - r) > 1e-9 for r in references))
    other = calibrate([scale * r for r in references]).rate(scale * distance)
    assert other.value == pytest.approx(one.value, rel=1e-6)


@given(distances)
def test_the_order_of_the_references_does_not_matter(references):
    assert calibrate(references) == calibrate(sorted(references)[::-1])


@given(st.integers(2, 100), st.floats(0.0, 1.0))
def test_equal_references_still_make_a_calibration(count, distance):
    calibration = calibrate([distance] * count)
    assert calibration.spread >= 0.05
    assert calibration.rate(distance).value == 1.0
    assert calibration.rate(distance * 10 + 0.1).value < 1 / (count + 1)


def test_one_bad_reference_does_not_hide_an_odd_frame():
    good = list(np.random.default_rng(1).normal(0.1, 0.005, 20))
    assert calibrate([*good, 5.0]).rate(0.5).value <= 2 / 22
    assert calibrate([*good, 5.0]).rate(9.0).extrapolated


@pytest.mark.parametrize("few", [[], [0.1]])
def test_too_few_references_make_no_calibration(few):
    with pytest.raises(ValueError, match="at least two"):
        calibrate(few)


@pytest.mark.parametrize("spread", [0.1, 0.3])
@pytest.mark.parametrize("count", [5, 10, 40, 200])
def test_the_false_alarm_rate_is_about_the_budget(count, spread):
    """Cells of exchangeable frames: the share flagged at 1 % must not stray far from 1 %, whatever their number."""
    rng = np.random.default_rng(count)
    cells, frames, budget = 400, 50, 0.01
    flagged = 0
    for _ in range(cells):
        calibration = calibrate(np.exp(rng.normal(-3.0, spread, count)))
        threshold = calibration.find_threshold(budget)
        flagged += int((np.exp(rng.normal(-3.0, spread, frames)) >= threshold).sum())
    rate = flagged / (cells * frames)
    # Frames of one cell share its references, so the rate scatters more than a binomial would.
    assert rate <= 0.02
    # No cell is taken to be sharper than five percent: few references of a sharp cell flag less than they might.
    assert rate >= 0.003 or (count, spread) == (5, 0.1)


@pytest.mark.parametrize("count", [10, 200])
def test_p_values_of_exchangeable_frames_are_about_uniform(count):
    rng = np.random.default_rng(7)
    values = []
    for _ in range(3000):
        *references, frame = np.exp(rng.normal(-3.0, 0.3, count + 1))
        values.append(calibrate(references).rate(frame).value)
    for level in (0.1, 0.25, 0.5, 0.75, 0.9):
        # Counted p-values come in steps of 1/(n+1): at most the level, and at least one step less.
        share = float(np.mean(np.asarray(values) <= level))
        assert level - 1 / (count + 1) - 0.03 <= share <= level + 0.03


def test_real_neighbours_of_exchangeable_frames_raise_few_false_alarms():
    """Vectors, not distances: a frame has one reference more to be near to than a reference has."""
    rng = np.random.default_rng(3)
    flagged = total = 0
    for _ in range(60):
        points = rng.normal(size=(60, 4))
        references, frames = points[:20], points[20:]
        among = np.linalg.norm(references[:, None] - references[None], axis=2) + np.diag([np.inf] * 20)
        nearest = np.linalg.norm(frames[:, None] - references[None], axis=2).min(axis=1)
        threshold = calibrate(among.min(axis=1)).find_threshold(0.05)
        flagged, total = flagged + int((nearest >= threshold).sum()), total + len(frames)
    assert 0.01 <= flagged / total <= 0.08


def test_sigma_is_the_one_sided_normal_equivalent():
    assert to_sigma(0.00134989803) == pytest.approx(3.0, abs=1e-6)
    assert to_sigma(0.5) == to_sigma(0.9) == to_sigma(1.0) == 0.0
    assert math.isfinite(to_sigma(float(np.finfo(float).tiny)))


# Distances.


def measure_distance(a: np.ndarray, b: np.ndarray) -> float:
    (neighbour,) = rank_neighbours(a, {"b": b}, ["b"], 1)
    return neighbour.distance


vectors = st.lists(st.floats(-1.0, 1.0, width=32), min_size=4, max_size=4).map(lambda v: np.array(v, dtype=np.float32))


@given(vectors, vectors, vectors)
def test_a_distance_is_a_metric(a, b, c):
    assert measure_distance(a, a) == 0.0
    assert measure_distance(a, b) == measure_distance(b, a) >= 0.0
    assert measure_distance(a, c) <= measure_distance(a, b) + measure_distance(b, c) + 1e-12


def test_a_distance_is_the_root_and_keeps_what_float32_would_lose():
    base = np.full(16384, 1 / 128, dtype=np.float32)
    near = base.copy()
    near[5] += np.float32(1e-6)
    assert measure_distance(base, near) == pytest.approx(float(near[5]) - float(base[5]), rel=1e-9)
    assert measure_distance(np.float32([1, 0]), np.float32([0, 1])) == pytest.approx(2**0.5)


@pytest.mark.parametrize("dimension", [1, 7, 1024, 4096, 16600])
def test_a_distance_is_the_same_to_the_bit_alone_and_in_any_company(dimension):
    rng = np.random.default_rng(dimension)
    vectors = {f"{i:02}": rng.normal(size=dimension).astype(np.float32) for i in range(40)}
    query = rng.normal(size=dimension).astype(np.float32)
    together = {n.frame_id: n.distance for n in rank_neighbours(query, vectors, sorted(vectors), 40)}
    for few in (1, 2, 3, 7):
        some = sorted(vectors)[few : 2 * few]
        assert all(together[n.frame_id] == n.distance for n in rank_neighbours(query, vectors, some, few))
    assert all(together[i] == measure_distance(query, v) for i, v in vectors.items())


def test_neighbours_are_ranked_by_distance_and_then_by_id():
    query = np.float32([1, 0])
    candidates = {"b": np.float32([0, 1]), "a": np.float32([0, 1]), "c": query, "d": np.float32([-1, 0])}
    ranked = rank_neighbours(query, candidates, ["d", "b", "unknown", "a", "c"], 3)
    assert [n.frame_id for n in ranked] == ["c", "a", "b"]
    assert rank_neighbours(query, candidates, [], 3) == ()


# Verdicts.

CELL = "instrument cam"


def judge(distance: float, references: list[float], *, least: int = 5, budget: float = 0.01):
    neighbours = (Neighbour("a", distance),)
    calibration = calibrate(references) if len(references) >= 2 else None
    return judge_frame(
        neighbours, distance, calibration, cell=CELL, references=len(references), least=least, budget=budget
    )  # fmt: skip


@given(st.lists(st.floats(0.01, 1.0), min_size=5, max_size=40), st.floats(0.0, 2.0), st.floats(1e-4, 0.3))
def test_a_frame_is_odd_exactly_where_its_p_value_is_within_the_budget(references, distance, budget):
    judged = judge(distance, references, budget=budget)
    assert (judged.status is Status.ANOMALY) == (judged.p_value.value <= budget)
    assert judged.status in (Status.ANOMALY, Status.NORMAL)
    assert judged.sigma >= 0.0


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_references_are_never_normal(count):
    judged = judge(0.0, [0.1] * count)
    assert judged.status is Status.NO_REFERENCE
    assert judged.p_value is None
    assert f"{count} of the 5 references needed" in judged.reason
    assert CELL in judged.reason


def test_no_neighbour_at_all_is_no_reference():
    judged = judge_frame((), None, calibrate([0.1] * 9), cell=CELL, references=9, least=5, budget=0.01)
    assert judged.status is Status.NO_REFERENCE


def test_a_reference_itself_is_told_so():
    judged = judge_frame(
        (Neighbour("itself", 0.0), Neighbour("a", 0.1)),
        *(0.1, calibrate([0.1] * 9)),
        cell=CELL,
        references=9,
        least=5,
        budget=0.01,
        itself=True,
    )
    assert judged.distance == 0.1
    assert judged.reason.endswith("; it is a reference itself, judged by the others")


# Cells.


def make_cell(points: dict[str, float]) -> Cell:
    """References on a line."""
    nearest = {
        i: tuple(sorted((Neighbour(j, abs(x - y)) for j, y in points.items() if j != i), key=lambda n: n.distance)[:2])
        for i, x in points.items()
    }
    return Cell(frozenset(points), nearest)


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.floats(0.0, 1.0), min_size=4, max_size=20))
def test_a_cell_without_one_reference_is_the_cell_that_never_had_it(points):
    for frame_id in points:
        rest = {i: x for i, x in points.items() if i != frame_id}
        assert make_cell(points).leave_out(frame_id).calibration == make_cell(rest).calibration
        assert make_cell(points).leave_out(frame_id).references == len(rest)


def test_a_cell_without_a_stranger_is_itself():
    cell = make_cell({"a": 0.0, "b": 1.0, "c": 3.0})
    assert cell.leave_out("z") is cell


@pytest.mark.parametrize("count", [0, 1])
def test_a_cell_of_fewer_than_two_references_has_no_calibration(count):
    assert make_cell({"ab"[i]: float(i) for i in range(count)}).calibration is None


# References that are judged.

BEST, NEXT = Pixels(2, 2), Pixels(2, 2, name="next")
Frames = list[tuple[str, Prepared]]


def draw_frames(count: int) -> Frames:
    values = np.random.default_rng(count).normal(1.0, 0.1, (count, 4))
    vectors = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return [(f"{i:02}", prepare(f"{i:02}", vector)) for i, vector in enumerate(vectors)]


def prepare(frame_id: str, vector: np.ndarray) -> Prepared:
    row = FrameRow(
        frame_id=frame_id, name=frame_id, obs_time=None, obs_time_source="", night=None, instrument="cam",
        telescope=None, filter="r", exposure_s=60.0, object=None, image_type=None,
        pointing=Pointing(None, None, "", None, 1, (1,)), width=9, height=9, hdu=0, bitpix=16,
        quality=Quality(None, None, None, None, 1.0, 0.0), header={},
    )  # fmt: skip
    return Prepared(row, {BEST.name: vector, NEXT.name: vector})


def make_judge(best: Frames, following: Frames | None = None) -> Judge:
    store = MemoryVectors()
    for embedding, frames in ((BEST, best), (NEXT, following or [])):
        entities = [entity_of(frame_id, frame, embedding) for frame_id, frame in frames]
        store.upsert(spec_of(embedding), entities)
        store.put_references(spec_of(embedding), entities)
    return Judge(store, JudgeRules(0.01, 3, 5, SearchRules(), (), "default"))


@pytest.mark.parametrize("count", [1, 5, 6, 7, 30])
def test_a_reference_is_judged_as_if_it_were_none(count):
    frames = draw_frames(count)
    for frame, judged in zip(frames, make_judge(frames).judge_batch(frames, [BEST]), strict=True):
        (alone,) = make_judge([one for one in frames if one is not frame]).judge_batch([frame], [BEST])
        reason = f"{alone.judgement.reason}; it is a reference itself, judged by the others"
        found = (Neighbour(frame[0], 0.0), *alone.judgement.neighbours)[:3]
        assert judged.judgement == replace(alone.judgement, reason=reason, neighbours=found)


def spread_out(frames: Frames, zones: list[int]) -> Frames:
    return [
        (i, replace(one, row=replace(one.row, pointing=replace(one.row.pointing, zone=zone, zones=(zone,)))))
        for (i, one), zone in zip(frames, zones, strict=True)
    ]


@pytest.mark.parametrize(("own", "elsewhere", "said"), [(1, 30, False), (2, 9, False), (2, 10, True), (4, 10, True)])
def test_a_thin_cell_is_calibrated_by_references_elsewhere_where_they_suffice(own, elsewhere, said):
    *references, asked = spread_out(draw_frames(own + elsewhere + 1), [1] * own + [2] * elsewhere + [1])
    (judged,) = make_judge(references).judge_batch([asked], [BEST])
    assert judged.judgement.references_in_cell == own
    assert {n.frame_id for n in judged.judgement.neighbours} <= {i for i, _ in references[:own]}
    assert judged.anywhere is said
    if not said:
        assert judged.judgement.status is Status.NO_REFERENCE
        assert f"{own} of the 5 references needed" in judged.judgement.reason
        return
    ids = [i for i, _ in references[own:]]
    vectors = {i: one.vectors[BEST.name] for i, one in references}
    here = measure_spread([vectors[i] for i, _ in references[:own]])
    distances = []
    for n, i in enumerate(ids):
        others = [vectors[ids[(n + step) % elsewhere]] for step in range(1, own + 1)]
        distances.append(min(measure_distance(vectors[i], o) for o in others) / measure_spread(others) * here)
    assert judged.judgement.threshold == pytest.approx(calibrate(distances).find_threshold(0.01), rel=1e-12)
    assert judged.judgement.status in (Status.NORMAL, Status.ANOMALY)
    words = f"calibrated by the {elsewhere} references of that instrument and filter elsewhere on the sky"
    assert f"{words}, for its own cell has {own}" in judged.judgement.reason


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.sampled_from([None, 0, 7])), st.integers(2, 5))
def test_each_reference_is_compared_with_so_many_others_of_its_zone(zones, count):
    partners = draw_partners(zones, count)
    of_zone = {zone: sum(other == zone for other in zones.values()) for zone in zones.values()}
    assert partners.keys() == {i for i, zone in zones.items() if of_zone[zone] > count}
    for i, others in partners.items():
        assert len({*others} - {i}) == count
        assert {zones[other] for other in others} == {zones[i]}
    asked = [other for others in partners.values() for other in others]
    assert all(asked.count(i) == count for i in partners), "nobody is asked more often than others"
    assert partners == draw_partners(dict(sorted(zones.items(), reverse=True)), count)


@pytest.mark.parametrize("own", [2, 3, 4])
@pytest.mark.parametrize("per_field", [10, 30])
def test_the_false_alarm_rate_of_a_thin_cell_is_about_the_budget(own, per_field):
    """Fields with many references elsewhere must not promise a frame with few that one of its own is as near."""
    rng = np.random.default_rng(own)
    flagged = frames = 0
    for _ in range(100):
        # Some fields are rougher than others, and so may the frame's own be.
        *rough, own_rough = np.exp(0.5 * rng.normal(size=6))
        points = {f"{i:03}": rng.normal(size=16) * rough[i // per_field] for i in range(5 * per_field)}
        partners = draw_partners({i: int(i) // per_field for i in points}, own)
        nearest = [
            min(np.linalg.norm(points[i] - points[p]) for p in others) / measure_spread([points[p] for p in others])
            for i, others in partners.items()
        ]
        references, asked = own_rough * rng.normal(size=(own, 16)), own_rough * rng.normal(size=(40, 16))
        threshold = calibrate(nearest).find_threshold(0.05) * measure_spread(list(references))
        distances = np.linalg.norm(asked[:, None] - references[None], axis=2).min(axis=1)
        flagged, frames = flagged + int((distances >= threshold).sum()), frames + 40
    assert 0.02 <= flagged / frames <= 0.08


def test_a_spread_is_the_mean_distance_of_all_pairs():
    assert measure_spread([np.float32([0, 0]), np.float32([3, 4]), np.float32([0, 4])]) == pytest.approx(
        (5 + 4 + 3) / 3
    )
    assert measure_spread([np.float32([1, 0])] * 2) > 0


def test_a_zone_with_fewer_others_than_the_frame_has_calibrates_nothing():
    zones = [1] * 4 + [zone for zone in range(2, 12) for _ in range(4)] + [1]
    *references, asked = spread_out(draw_frames(45), zones)
    (judged,) = make_judge(references).judge_batch([asked], [BEST])
    assert judged.judgement.status is Status.NO_REFERENCE
    (judged,) = make_judge(references[1:]).judge_batch([asked], [BEST])
    assert judged.anywhere


def test_a_frame_with_no_reference_of_its_own_is_never_calibrated_by_others():
    *references, asked = spread_out(draw_frames(31), [2] * 30 + [1])
    (judged,) = make_judge(references).judge_batch([asked], [BEST])
    assert (judged.judgement.status, judged.anywhere) == (Status.NO_REFERENCE, False)


@pytest.mark.parametrize("other", [{"instrument": "another"}, {"filter": "g"}, {"exposure_s": 600.0}])
def test_only_the_place_is_given_up(other):
    frames = spread_out(draw_frames(31), [1] * 3 + [2] * 27 + [1])
    strangers = [(i, replace(one, row=replace(one.row, **other))) for i, one in frames[3:30]]
    (judged,) = make_judge([*frames[:3], *strangers]).judge_batch([frames[30]], [BEST])
    assert judged.judgement.status is Status.NO_REFERENCE


def test_a_reference_of_a_thin_cell_has_no_say_in_the_wider_one():
    frames = spread_out(draw_frames(20), [1] * 4 + [2] * 16)
    (judged,) = make_judge(frames).judge_batch(frames[:1], [BEST])
    (alone,) = make_judge(frames[1:]).judge_batch(frames[:1], [BEST])
    assert judged.anywhere
    assert alone.anywhere
    assert judged.judgement.p_value == alone.judgement.p_value
    assert judged.judgement.threshold == alone.judgement.threshold
    assert judged.judgement.references_in_cell == 3


def test_a_reference_whose_others_are_too_few_is_judged_under_the_next_embedding():
    frames = draw_frames(6)
    judged = make_judge(frames[:5], frames).judge_batch(frames, [BEST, NEXT])
    assert [one.embedding for one in judged] == [NEXT] * 5 + [BEST]


# Places.


def test_a_bright_and_a_dark_cell_are_found_where_they_are():
    rng = np.random.default_rng(2)
    reference = (1 + rng.normal(0, 1e-3, (20, 30))).astype(np.float32)
    changed = reference + rng.normal(0, 1e-3, (20, 30)).astype(np.float32)
    changed[4, 25] += 1.0
    changed[15, 3] -= 0.5
    found = locate_differences(changed.ravel(), reference.ravel(), (20, 30), (200, 600))
    assert [(round(d.x), round(d.y)) for d in found[:2]] == [(510, 44), (70, 154)]
    assert found[0].sigma > found[1].sigma > 5
    assert found[0].size_px == pytest.approx(math.sqrt(10 * 20))


def test_equal_maps_and_pure_noise_show_nothing_or_next_to_nothing():
    rng = np.random.default_rng(4)
    one = rng.normal(1, 1e-3, 1024).astype(np.float32)
    other = rng.normal(1, 1e-3, 1024).astype(np.float32)
    assert locate_differences(one, one, (32, 32), (64, 64)) == ()
    assert len(locate_differences(one, other, (32, 32), (64, 64))) <= 1


def test_at_most_ten_places_strongest_first_and_inside_the_frame():
    rng = np.random.default_rng(5)
    reference = rng.normal(1, 1e-3, (40, 40)).astype(np.float32)
    changed = reference + rng.normal(0, 1e-3, (40, 40)).astype(np.float32)
    changed[::6, ::6] += np.linspace(0.1, 1.0, 49).reshape(7, 7).astype(np.float32)
    found = locate_differences(changed.ravel(), reference.ravel(), (40, 40), (33, 91))
    assert len(found) == 10
    assert [d.sigma for d in found] == sorted((d.sigma for d in found), reverse=True)
    assert all(-0.5 <= d.x <= 90.5 and -0.5 <= d.y <= 32.5 for d in found)
