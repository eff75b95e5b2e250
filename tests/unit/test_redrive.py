"""Dead letters are sent once more, each once: one that cannot be is told of, and holds up none behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest

from pipeline.errors import OddframeError, StoreError, TransientError, UsageError
from pipeline.ports import SourcePosition
from pipeline.run.redrive import redrive_letters
from pipeline.source.dead_letters import DeadLetter
from pipeline.source.kafka_messages import KafkaMessage
from pipeline.source.messages import AGAIN_HEADER, Outgoing
from tests.fakes.tables import MemoryTables

Told = tuple[int, str | None]
AGAIN = (AGAIN_HEADER, b"yes")


class Topic:
    """A sender whose topic takes small messages, and which learns late what is wrong with one of them."""

    def __init__(self, wrong: int = -1, error: BaseException | None = None) -> None:
        self._wrong, self._error = letter(wrong).headers, error
        self._waiting: list[Outgoing] = []
        self.sent: list[Outgoing] = []

    def send(self, message: Outgoing, name: str) -> None:
        if len(message.value) > 10:
            raise UsageError(f"{name} is {len(message.value)} bytes; send it as a claim check")
        self._waiting.append(message)

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if self._error is not None and any(message.headers[:1] == self._wrong for message in waiting):
            raise self._error
        self.sent += waiting


def letter(number: int, value: bytes | None = b"v") -> DeadLetter:
    place = SourcePosition("kafka:dead:0", number)
    source = SourcePosition("kafka:t:0", number)
    return DeadLetter(value, (("n", b"%d" % number),), "c", "r", source, datetime(2026, 1, 1), place)  # noqa: DTZ001


def nothing(position: SourcePosition) -> None:
    """What a topic gives whose retention was faster."""


def redrive(
    letters: list[DeadLetter],
    sender: Topic,
    tables: MemoryTables,
    find: Callable[[SourcePosition], KafkaMessage | None] = nothing,
) -> tuple[int, list[Told]]:
    told: list[Told] = []

    def tell(one: DeadLetter, problem: OddframeError | None) -> None:
        told.append((one.position.offset, problem and str(problem)))

    return redrive_letters(letters, find, sender, tables, tell), told


def noted(tables: MemoryTables, count: int) -> list[int]:
    held = tables.positions("quarantine")
    return [n for n in range(count) if held.holds(SourcePosition("kafka:dead:0", n))]


@pytest.mark.parametrize(("stuck", "text"), [(None, "send it again"), (b"v" * 11, "send it as a claim check")])
def test_a_letter_that_cannot_be_sent_holds_up_none_behind_it(stuck, text):
    sender, tables = Topic(), MemoryTables()
    sent, told = redrive([letter(0), letter(1, stuck), letter(2)], sender, tables)
    assert sent == 2
    assert [dict(message.headers)["n"] for message in sender.sent] == [b"0", b"2"]
    assert noted(tables, 3) == [0, 2]
    assert [(number, problem is None) for number, problem in told] == [(0, True), (1, False), (2, True)]
    assert text in (told[1][1] or "")


@pytest.mark.parametrize("error", [UsageError("refused"), StoreError("odd")])
def test_a_letter_that_the_topic_refuses_late_is_told_of_and_not_noted(error):
    sender, tables = Topic(1, error), MemoryTables()
    sent, told = redrive([letter(0), letter(1), letter(2)], sender, tables)
    assert (sent, told) == (2, [(0, None), (1, str(error)), (2, None)])
    assert noted(tables, 3) == [0, 2]


@pytest.mark.parametrize("error", [TransientError("away"), KeyboardInterrupt()])
def test_what_was_sent_is_noted_when_an_error_ends_it(error):
    sender, tables = Topic(2, error), MemoryTables()
    with pytest.raises(type(error)):
        redrive([letter(n) for n in range(4)], sender, tables)
    assert (len(sender.sent), noted(tables, 4)) == (2, [0, 1])
    assert redrive([letter(n) for n in (2, 3)], Topic(), tables)[0] == 2
    assert noted(tables, 4) == [0, 1, 2, 3]


def test_what_a_letter_left_out_is_all_fetched_from_its_source():
    own = (("oddframe-form", b"envelope"), ("n", b"of the source"), ("none", None), AGAIN)
    source = KafkaMessage(SourcePosition("kafka:t:0", 1), b"source", own)
    sender = Topic()
    # Its headers say what its letter's value was, and that is not what comes from the source.
    left = replace(letter(1, None), headers=(("oddframe-form", b"raw"),))
    asked: list[SourcePosition] = []

    def find(position: SourcePosition) -> KafkaMessage:
        asked.append(position)
        return source

    assert redrive([letter(0), left], sender, MemoryTables(), find)[0] == 2
    assert asked == [left.position]
    assert sender.sent[1] == Outgoing(b"source", (own[0], own[1], AGAIN))


def test_a_message_without_a_value_is_sent_as_an_empty_one():
    sender = Topic()
    empty = KafkaMessage(SourcePosition("kafka:t:0", 0), None, ())
    assert redrive([letter(0, None)], sender, MemoryTables(), lambda _: empty)[0] == 1
    assert sender.sent == [Outgoing(b"", (AGAIN,))]
