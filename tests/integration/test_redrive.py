"""`topic redrive` from the command line: what cannot be sent is named, the rest is sent, and none is sent twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime

import pytest

from pipeline.parts import find_kafka, name_dead_letters
from pipeline.ports import SourcePosition
from pipeline.source.dead_letters import DeadLetter, write_letter
from pipeline.source.producer import FrameProducer
from pipeline.source.topics import create_topic
from tests.faults.world import World, lend_world
from tests.lake_tools import oddframe, read_lines
from tests.stack import require_stack

LIMIT = 100_000


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    with lend_world(require_stack(), tmp_path, seed=5) as made:
        yield made


def test_letters_behind_one_that_cannot_be_sent_are_sent_and_its_place_is_named(world):
    connection, graveyard = find_kafka(world.settings), name_dead_letters(world.topic)
    create_topic(connection, graveyard)
    places = [SourcePosition(f"kafka:{world.topic}:{number}", 7) for number in range(3)]
    values = [None, b"no frame", b"\x1b[1mnor this"]
    with closing(FrameProducer(connection, graveyard)) as producer:
        for place, value in zip(places, values, strict=True):
            letter = DeadLetter(value, (), "not_fits", "It is none.", place, datetime(2026, 1, 1))  # noqa: DTZ001
            producer.send(write_letter(letter, LIMIT), "letter")
        producer.flush()
    given = world.environment()
    for sent in (places[1:], []):
        done = oddframe("topic", "redrive", "--json", home=world.settings.home, **given)
        assert done.returncode == 1, done.stderr
        assert [line["partition"] for line in read_lines(done.stdout)] == [place.partition for place in sent]
        said = " ".join(done.stderr.split())
        assert f"{places[0].partition} 7 was not sent: its letter has no bytes" in said
        assert f"{len(sent)} messages sent to {world.topic} once more, 1 could not be" in said
