"""Dead letters: one fits its topic whatever its message was, and what it gives back is the message that came."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import StoreError
from pipeline.ports import SourcePosition
from pipeline.run.message import land_message, lighten, restore
from pipeline.source.dead_letters import LEAST, DeadLetter, read_letter, resend, strip_headers, write_letter
from pipeline.source.kafka_messages import KafkaMessage
from pipeline.source.messages import AGAIN_HEADER, Delivered, Headers, MessageRules, read_message, write_envelope
from pipeline.source.producer import measure
from pipeline.store.originals import LocalOriginals

SOURCE = SourcePosition(f"kafka:{'t' * 249}:2147483647", 2**63 - 1)
PLACE = SourcePosition("kafka:dead:0", 3)
LETTER = DeadLetter(b"value", (("FILTER", b"V"),), "not_fits", "It is none.", SOURCE, datetime(2026, 1, 1))  # noqa: DTZ001
RULES = MessageRules(10**6)

headers = st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=5), st.binary(max_size=5)), max_size=300)


def keep(letter: DeadLetter, limit: int) -> DeadLetter:
    """What is read of a letter that was written to a topic with a limit."""
    written = write_letter(letter, limit)
    assert measure(written) <= limit
    return read_letter(KafkaMessage(PLACE, written.value, written.headers))


def test_a_letter_that_fits_is_the_whole_message():
    assert keep(LETTER, 10_000) == replace(LETTER, place=PLACE)


def test_a_value_that_does_not_fit_is_left_out():
    assert keep(replace(LETTER, value=bytes(10_000)), 10_000) == replace(LETTER, value=None, place=PLACE)


def test_headers_that_do_not_fit_are_left_out_with_the_value():
    many = replace(LETTER, headers=(("a", b"bc"),) * 70_000)
    assert keep(many, 1_100_000) == replace(LETTER, value=None, headers=(), place=PLACE)
    with pytest.raises(StoreError, match=r"keeps it no longer; have its sender send it again"):
        resend(keep(many, 1_100_000))


def test_of_a_reason_that_does_not_fit_the_beginning_is_kept():
    kept = keep(replace(LETTER, reason="ä✓" * 1_000), LEAST)
    assert (kept.value, kept.code, kept.position) == (None, LETTER.code, SOURCE)
    assert kept.reason
    assert ("ä✓" * 1_000).startswith(kept.reason)


@given(st.binary(max_size=5_000), headers, st.text(st.characters(codec="utf-8"), max_size=2_000), st.integers(0, 9_000))
def test_code_and_place_fit_always(value, its_headers, reason, room):
    letter = replace(LETTER, value=value, headers=strip_headers(its_headers), reason=reason)
    kept = keep(letter, LEAST + room)
    assert (kept.code, kept.position, kept.at) == (letter.code, letter.position, letter.at)
    assert reason.startswith(kept.reason)
    assert kept.value in {None, value}
    assert kept.value is None or (kept.headers, kept.reason) == (letter.headers, reason)


@pytest.fixture
def originals(tmp_path: Path) -> LocalOriginals:
    return LocalOriginals(tmp_path)


def come_back(originals: LocalOriginals, value: bytes, its_headers: Headers) -> Delivered:
    """A message that lands, turns out to be no frame, becomes a letter and is sent and read again."""
    message = KafkaMessage(SourcePosition("kafka:t:0", 7), value, tuple(its_headers))
    landed = land_message(message, originals, RULES)
    whole = restore(lighten(message, landed), landed, originals)
    letter = DeadLetter(
        whole.value, strip_headers(whole.headers), "not_fits", "", message.position, LETTER.at, LETTER.place
    )
    again = resend(keep(letter, 10**6))
    assert (AGAIN_HEADER, b"yes") in again.headers
    return read_message(again.value, again.headers, RULES)


@pytest.mark.parametrize("size", [100, 100_000])
def test_what_a_sender_declares_in_an_envelope_is_in_its_letter_however_large_it_is(originals, size):
    fields = {"OBSERVER": "ä\ud800", "n": [1], "": "no name", "FILTER": "B", "x": "field"}
    value = json.dumps({**json.loads(write_envelope(bytes(size), "a b.fits").value), **fields}).encode()
    its_headers = [("FILTER", b"V"), ("x", None), ("LONG", b"l" * 5_000)]
    first = read_message(value, its_headers, RULES)
    back = come_back(originals, value, its_headers)
    assert (back.name, back.frame_id, back.payload) == (first.name, first.frame_id, first.payload)
    assert first.metadata["FILTER"] == "V"
    if size > 1_000:
        assert dict(back.metadata) == dict(first.metadata)
