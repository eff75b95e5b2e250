"""Ids that may be known: never one too few, and few bytes each."""

from __future__ import annotations

import sys
from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from pipeline.store import known as known_module
from pipeline.store.known import KnownIds


def id_of(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


@given(
    first=st.sets(st.integers(0, 60)),
    changes=st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=80),
)
def test_it_knows_what_a_set_knows(first, changes):
    known, model = KnownIds(id_of(n) for n in first), set(first)
    for added, number in changes:
        (known.add if added else known.discard)(id_of(number))
        (model.add if added else model.discard)(number)
    assert {n for n in range(61) if id_of(n) in known} == model


def test_a_great_many_take_little_room_and_none_is_forgotten(monkeypatch):
    monkeypatch.setattr(known_module, "_MOST_RECENT", 1_000)
    known = KnownIds(id_of(n) for n in range(5_000))
    for number in range(5_000, 9_500):
        known.add(id_of(number))
    assert all(id_of(n) in known for n in range(9_500))
    assert not any(id_of(n) in known for n in range(9_500, 12_000))
    assert known._marks._old.nbytes + sys.getsizeof(known._marks._recent) < 150_000
