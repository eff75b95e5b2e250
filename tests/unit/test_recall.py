"""Recall along a ladder: intervals, and the brightness at which half is found."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.judge.recall import Rung, find_snr


def ladder(*shares: float, trials: int = 20) -> list[Rung]:
    return [Rung(5.0 + i, trials, round(share * trials), 0) for i, share in enumerate(shares)]


def test_half_is_found_between_the_rungs_that_say_so():
    assert find_snr(ladder(0.0, 0.25, 0.75, 1.0), 0.5) == pytest.approx(6.5)
    assert find_snr(ladder(0.0, 0.25, 0.75, 1.0), 0.75) == pytest.approx(7.0)


def test_a_ladder_that_does_not_reach_a_share_names_no_brightness():
    assert find_snr(ladder(0.0, 0.1, 0.2), 0.5) is None
    assert find_snr(ladder(0.8, 0.9, 1.0), 0.5) is None
    assert find_snr([], 0.5) is None
    assert find_snr([Rung(5.0, 0, 0, 0)], 0.5) is None


def test_chance_that_turns_a_ladder_down_is_levelled():
    assert find_snr(ladder(0.0, 0.6, 0.4, 1.0), 0.5) == pytest.approx(6.0)


def test_wilsons_interval_is_that_of_the_books():
    # 15 of 20: 0.531 to 0.888.
    low, high = Rung(5.0, 20, 15, 0).measure_interval()
    assert (low, high) == pytest.approx((0.5313, 0.8881), abs=1e-3)
    assert Rung(5.0, 0, 0, 0).measure_interval() == (0.0, 1.0)
    assert math.isnan(Rung(5.0, 0, 0, 0).recall)


@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0, 1)), min_size=1, max_size=12), st.floats(0.01, 0.99))
def test_the_answer_lies_on_the_ladder_and_grows_with_the_share(drawn, share):
    rungs = [Rung(3.0 + i, n, round(n * recall), 0) for i, (n, recall) in enumerate(drawn)]
    found = find_snr(rungs, share)
    if found is not None:
        assert rungs[0].snr <= found <= rungs[-1].snr
        higher = find_snr(rungs, min(0.99, share + 0.2))
        assert higher is None or higher >= found - 1e-9


@given(st.integers(1, 200), st.data())
def test_an_interval_holds_the_share(trials, data):
    found = data.draw(st.integers(0, trials))
    low, high = Rung(5.0, trials, found, 0).measure_interval()
    assert 0 <= low <= found / trials + 1e-12
    assert found / trials - 1e-12 <= high <= 1
