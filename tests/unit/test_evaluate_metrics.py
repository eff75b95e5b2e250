"""Metrics against values worked out by hand, and what must hold of any ranking."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluate.bootstrap import estimate, estimate_share
from pipeline.evaluate.metrics import (
    correlate_ranks,
    find_half,
    measure_auc,
    measure_average_precision,
    measure_precision,
    measure_recall,
    rank,
)
from pipeline.judge.calibration import to_amplitude

SCORES = [0.9, 0.8, 0.7, 0.7, 0.4, 0.1]
ODD = [True, False, True, False, True, False]
items = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30)


def test_auc_counts_pairs_in_order_and_ties_as_half():
    # 0.9 beats 3 normals; 0.7 beats 1 and ties with 1; 0.4 beats 1: 3 + 1.5 + 1 of 9.
    assert measure_auc(rank(SCORES, ODD)) == pytest.approx(5.5 / 9)


def test_average_precision_takes_ties_together():
    # Recall 1/3 at precision 1; then 2/3 at 2 of 4; then 1 at 3 of 5.
    assert measure_average_precision(rank(SCORES, ODD)) == pytest.approx((1 + 0.5 + 0.6) / 3)


def test_recall_allows_only_so_many_false_alarms():
    ranking = rank(SCORES, ODD)
    assert measure_recall(ranking, false_alarms=0.01) == pytest.approx(1 / 3)
    assert measure_recall(ranking, false_alarms=1 / 3) == pytest.approx(1 / 3)
    assert measure_recall(ranking, false_alarms=2 / 3) == pytest.approx(1.0)


def test_precision_shares_the_last_places_among_ties():
    ranking = rank(SCORES, ODD)
    assert measure_precision(ranking, k=2) == pytest.approx(1 / 2)
    # Of the third place the two that tie have half each.
    assert measure_precision(ranking) == pytest.approx(1.5 / 3)
    assert measure_precision(ranking, k=100) == pytest.approx(1 / 2)


def test_one_class_alone_has_no_auc():
    assert math.isnan(measure_auc(rank([1.0, 2.0], [True, True])))
    assert math.isnan(measure_recall(rank([1.0, 2.0], [False, False])))
    assert math.isnan(measure_average_precision(rank([1.0], [False])))


def test_a_score_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="not a number"):
        rank([1.0, math.nan], [True, False])


@given(items)
def test_auc_is_the_share_of_pairs(drawn):
    scores, odd = np.array([s for s, _ in drawn]), np.array([o for _, o in drawn])
    if odd.all() or not odd.any():
        return
    pairs = np.sign(scores[odd][:, None] - scores[~odd][None]) / 2 + 0.5
    assert measure_auc(rank(scores, odd)) == pytest.approx(pairs.mean())
    assert measure_auc(rank(-scores, odd)) == pytest.approx(1 - pairs.mean())


@given(items, st.integers(0, 3))
def test_a_weight_is_a_repetition(drawn, times):
    scores, odd = [s for s, _ in drawn], [o for _, o in drawn]
    weight = np.ones(len(drawn))
    weight[0] = times
    repeated = [(s, o) for (s, o), w in zip(drawn, weight, strict=True) for _ in range(int(w))]
    for metric in (measure_auc, measure_average_precision, measure_recall, measure_precision):
        here = metric(rank(scores, odd), weight)
        there = metric(rank([s for s, _ in repeated], [o for _, o in repeated]))
        assert here == pytest.approx(there, nan_ok=True)


@given(items)
def test_metrics_lie_between_0_and_1(drawn):
    ranking = rank([s for s, _ in drawn], [o for _, o in drawn])
    for metric in (measure_auc, measure_average_precision, measure_recall, measure_precision):
        value = metric(ranking)
        assert math.isnan(value) or -1e-12 <= value <= 1 + 1e-12


def test_half_is_found_between_two_rungs():
    snr = np.array([5.0, 5, 10, 10, 20, 20])
    assert find_half(snr, np.array([0.0, 0, 0, 1, 1, 1])) == pytest.approx(10)
    # From 0 at 5 to 1 at 10: half way in the logarithm.
    assert find_half(snr, np.array([0.0, 0, 1, 1, 1, 1])) == pytest.approx(math.sqrt(50))
    assert find_half(snr, np.array([1.0, 0, 1, 1, 1, 1])) == pytest.approx(5)
    assert find_half(snr, np.zeros(6)) == math.inf
    assert math.isnan(find_half(np.zeros(0), np.zeros(0)))


def test_rank_correlation_of_an_order_its_reverse_and_ties():
    up = np.array([1.0, 2, 3, 4])
    assert correlate_ranks(up, up**3) == pytest.approx(1)
    assert correlate_ranks(up, -up) == pytest.approx(-1)
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5).
    assert correlate_ranks(np.array([1.0, 2, 2, 3]), up) == pytest.approx(4.5 / math.sqrt(22.5))
    assert math.isnan(correlate_ranks(up, np.ones(4)))


def test_the_interval_holds_the_value_and_is_the_same_every_time():
    rng = np.random.default_rng(3)
    odd = np.arange(60) < 20
    ranking = rank(rng.normal(odd * 1.0), odd)
    owners = [f"o{i}" for i in range(60)]
    one, two = (estimate(partial(measure_auc, ranking), owners) for _ in range(2))
    assert one == two
    assert one.low < one.value < one.high
    assert one.objects == 60


def test_frames_of_one_object_widen_the_interval():
    hits = [i % 10 < 5 for i in range(100)]
    alone = estimate_share(hits, [f"o{i}" for i in range(100)])
    grouped = estimate_share(sorted(hits), [f"o{i // 25}" for i in range(100)])
    assert grouped.objects == 4
    assert alone.value == grouped.value == 0.5
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_one_object_has_no_interval_and_none_no_value():
    alone = estimate_share([True, False], ["a", "a"])
    assert (alone.value, alone.low, alone.high, alone.objects) == (0.5, None, None, 1)
    assert estimate_share([], []).value is None


def test_what_lies_beyond_the_ladder_has_no_number():
    snr = np.array([5.0, 10.0])
    half = estimate(partial(find_half, snr, np.zeros(2)), ["a", "b"])
    assert (half.value, half.high) == (None, None)


@settings(max_examples=50)
@given(st.floats(0.01, 50))
def test_the_amplitude_is_that_of_the_excess(excess):
    constant = 30.0
    vector = np.array([excess, constant]) / math.hypot(excess, constant)
    distance = float(np.linalg.norm(vector - np.array([0.0, 1.0])))
    assert to_amplitude(distance) == pytest.approx(excess / constant, rel=1e-6)
