"""Which frames of a night are odd at a budget of the whole night."""
# ruff: noqa: DTZ001 - times are naive UTC throughout, as the tables have them

from __future__ import annotations

from datetime import date, datetime
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.app import run
from pipeline.judge.budget import bound_by_alarms, bound_by_fdr
from pipeline.run.stored import list_verdicts
from tests.fakes.tables import MemoryTables

nights = st.lists(st.floats(1e-300, 1.0), max_size=60)
# Counted p-values come in steps: many frames of a night share one.
stepped = st.lists(st.integers(1, 12).map(lambda n: n / 12), max_size=60)
rates = st.one_of(st.floats(1e-6, 0.999), st.sampled_from([0.05, 0.1, 0.25, 0.5]))
some = st.one_of(nights, stepped)


def reject_naively(p_values: list[float], rate: float) -> list[bool]:
    """Step up, as the paper words it: the largest k, then the k hypotheses with the smallest p-values."""
    n = len(p_values)
    order = sorted(range(n), key=lambda i: p_values[i])
    k = n
    while k > 0 and p_values[order[k - 1]] > k * rate / n:
        k -= 1
    return [i in order[:k] for i in range(n)]


@given(some, rates)
def test_the_false_discovery_rate_is_that_of_the_paper(p_values, rate):
    bound = bound_by_fdr(p_values, rate)
    assert [p <= bound for p in p_values] == reject_naively(p_values, rate)


@given(some, rates, rates)
def test_who_allows_more_gets_no_less(p_values, one, other):
    less, more = sorted((one, other))
    assert bound_by_fdr(p_values, less) <= bound_by_fdr(p_values, more)
    assert bound_by_alarms(p_values, less) <= bound_by_alarms(p_values, more)


@given(st.lists(st.floats(1e-300, 1.0), min_size=1, max_size=60), rates, st.randoms())
def test_the_order_of_the_frames_does_not_matter(p_values, rate, random):
    mixed = random.sample(p_values, len(p_values))
    assert bound_by_fdr(mixed, rate) == bound_by_fdr(p_values, rate)
    assert bound_by_alarms(mixed, rate) == bound_by_alarms(p_values, rate)


@given(st.lists(st.floats(1e-300, 1.0), min_size=1, max_size=60), rates, st.data())
def test_a_frame_that_grows_odder_makes_no_other_less_odd(p_values, rate, data):
    place = data.draw(st.integers(0, len(p_values) - 1))
    odder = [p / 2 if i == place else p for i, p in enumerate(p_values)]
    before, after = bound_by_fdr(p_values, rate), bound_by_fdr(odder, rate)
    assert all(p <= after for i, p in enumerate(p_values) if p <= before and i != place)


def test_a_night_without_p_values_has_nothing_odd():
    assert bound_by_alarms([], 3.0) == bound_by_fdr([], 0.2) == 0.0


@pytest.mark.parametrize(("p_values", "odd"), [([0.05] * 4, 4), ([0.06] * 4, 0), ([0.001, 0.02, 0.04, 0.06], 2)])
def test_frames_of_one_p_value_stand_or_fall_together(p_values, odd):
    bound = bound_by_fdr(p_values, 0.05)
    assert sum(p <= bound for p in p_values) == odd


def test_the_example_of_the_paper():
    """Its section 3: fifteen p-values; at 5 percent four are rejected, where Bonferroni rejects three."""
    p_values = [
        *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528),
        *(0.7590, 1.0000),
    ]
    assert bound_by_fdr(p_values, 0.05) == 0.0095
    assert sum(p <= bound_by_alarms(p_values, 0.05) for p in p_values) == 3


def test_as_many_false_alarms_are_seen_as_were_allowed():
    rng = np.random.default_rng(1)
    seen = [int((night <= bound_by_alarms(list(night), 2.0)).sum()) for night in rng.uniform(size=(500, 300))]
    # The mean of 500 nights, each about a Poisson number of mean 2: five standard errors are 0.32.
    assert np.mean(seen) == pytest.approx(2.0, abs=0.32)


def test_the_share_of_false_ones_among_the_flagged_stays_below_the_rate():
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(500):
        p_values = [*rng.uniform(size=180), *(rng.uniform(size=20) * 1e-4)]
        bound = bound_by_fdr(p_values, 0.2)
        false = sum(p <= bound for p in p_values[:180])
        shares.append(false / max(1, false + sum(p <= bound for p in p_values[180:])))
    # Expected: 0.2 times the share of true normals, 0.9.
    assert np.mean(shares) == pytest.approx(0.18, abs=0.02)


# Frames of a night.

NIGHT = date(2026, 3, 12)


def say(tables: MemoryTables, frame: str, p_value: float | None, *, hour: int = 1, night: date = NIGHT, **more) -> None:
    verdict = {
        "verdict_id": f"{frame}-{hour}", "frame_id": frame, "name": f"{frame}.fits", "night": night,
        "judged_at": datetime(2026, 3, 13, hour), "p_value": p_value, "status": "normal", "embedding": "pixels",
    }  # fmt: skip
    tables.append("verdicts", [verdict | more])


@pytest.fixture
def tables() -> MemoryTables:
    """Ten frames with a p-value: nine from 0.1 to 0.9 and one of 0.01; others without, or of another night."""
    held = MemoryTables()
    for n in range(1, 10):
        say(held, f"f{n}", n / 10)
    say(held, "odd", 0.01, status="anomaly")
    say(held, "alone", None, status="no_reference")
    say(held, "before", 0.001, night=date(2026, 3, 11))
    return held


def list_odd(tables: MemoryTables, bound, **options) -> list[str]:
    return [line["name"] for line in list_verdicts(tables, night="2026-03-12", limit=None, bound=bound, **options)]


def test_a_night_counts_its_own_frames_with_a_p_value(tables):
    assert list_odd(tables, partial(bound_by_alarms, alarms=1.0)) == ["odd.fits", "f1.fits"]
    assert list_odd(tables, partial(bound_by_alarms, alarms=0.99)) == ["odd.fits"]
    assert list_odd(tables, partial(bound_by_fdr, rate=0.1)) == ["odd.fits"]
    assert list_odd(tables, partial(bound_by_fdr, rate=0.09)) == []
    assert list_odd(tables, partial(bound_by_alarms, alarms=1.0), status="normal") == ["f1.fits"]


def test_the_newest_verdict_of_a_frame_counts_and_no_other(tables):
    say(tables, "odd", 0.5, hour=2, embedding="residual")
    say(tables, "f9", 0.002, hour=2)
    say(tables, "f1", None, hour=2, status="no_reference")
    # Nine are left: f1 has no p-value any more, and the first words on `odd` and f9 are overruled.
    assert list_odd(tables, partial(bound_by_alarms, alarms=1.0)) == ["f9.fits"]
    assert list_odd(tables, partial(bound_by_alarms, alarms=9 * 0.2)) == ["f9.fits", "f2.fits"]


def test_the_command_lists_what_the_night_allows_and_all_of_it(tmp_path, capsys, monkeypatch):
    held = MemoryTables()
    for n in range(70):
        say(held, f"f{n:02}", 0.001)
    monkeypatch.setattr("pipeline.cli.verdicts.open_tables", lambda _: held)
    monkeypatch.setattr("pipeline.cli.verdicts.find_home", lambda settings: settings)
    for more, count in (
        ([], 50),
        (["--alarms", "1"], 70),
        (["--fdr", "0.01"], 70),
        (["--fdr", "0.01", "--limit", "3"], 3),
    ):
        assert run(["verdicts", "--night", "2026-03-12", *more, "--json", "--home", str(tmp_path)]) == 0
        assert capsys.readouterr().out.count("\n") == count
