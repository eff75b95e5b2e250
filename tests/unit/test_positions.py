"""Positions as ranges: what is the last one held."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ports import SourcePosition
from pipeline.store.positions import PositionSet


def hold(*offsets: int) -> PositionSet:
    return PositionSet().add(SourcePosition("p", offset) for offset in offsets)


@pytest.mark.parametrize(
    ("before", "last"), [(None, 9), (100, 9), (10, 9), (9, 4), (8, 4), (5, 4), (4, 3), (2, None), (0, None)]
)
def test_the_last_position_is_that_of_the_last_range_that_begins_before(before, last):
    assert hold(2, 3, 4, 9).last("p", before) == last


def test_a_partition_of_which_nothing_is_held_has_no_last_position():
    assert hold(2).last("q") is None
    assert PositionSet().last("p", 5) is None


@given(st.sets(st.integers(0, 30)), st.integers(0, 32))
def test_the_last_position_is_the_greatest_held_before(offsets, before):
    assert hold(*offsets).last("p", before) == max((offset for offset in offsets if offset < before), default=None)
