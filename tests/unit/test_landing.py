"""Messages of a batch on their way to the originals: in order, few in memory, and known by about how large they are."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.errors import TransientError
from pipeline.ports import SourcePosition
from pipeline.run.landing import Landing
from pipeline.source.kafka_messages import KafkaMessage
from pipeline.source.messages import MessageRules


class Shelf:
    """Originals in memory, which takes a content when it may."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.open = threading.Event()
        self.open.set()

    def keep(self, frame_id: str, payload: bytes) -> Path:
        assert self.open.wait(10.0)
        if b"bad" in payload[:20]:
            raise TransientError("the disk is full")
        self.kept[frame_id] = payload
        return Path("/shelf") / frame_id


def message(number: int, size: int = 100_000, begin: bytes = b"SIMPLE  =") -> KafkaMessage:
    value = begin + number.to_bytes(4, "big") + bytes(size - len(begin) - 4)
    return KafkaMessage(SourcePosition("kafka:t:0", number), value, ())


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def threads():
    with ThreadPoolExecutor(2) as pool:
        yield pool


def land(threads, shelf, most_bytes=10**9, most_messages=1_000) -> Landing:
    return Landing(threads, shelf, MessageRules(10**6), most_bytes, most_messages)


def test_all_come_in_order_and_what_is_kept_is_not_held(threads, shelf):
    landing = land(threads, shelf)
    sent = [message(number, 100_000 if number % 2 else 1_000) for number in range(50)]
    landing.add(sent[:20])
    landing.add(sent[20:])
    assert len(landing) == 50
    done = list(landing.finish())
    assert [one.position for one, _ in done] == [one.position for one in sent]
    assert [landed.frame_id for _, landed in done] == [sha256(one.value).hexdigest() for one in sent]
    assert [one.value is None for one, _ in done] == [number % 2 == 1 for number in range(50)]
    assert len(shelf.kept) == 50


@pytest.mark.parametrize(("most_bytes", "most_messages"), [(350_000, 1_000), (10**9, 3)])
def test_no_more_than_asked_for_are_in_memory(threads, shelf, most_bytes, most_messages):
    landing = land(threads, shelf, most_bytes, most_messages)
    for number in range(30):
        landing.add([message(number)])
        assert len(landing) - len(landing.landed) <= 3


def test_about_how_large_a_batch_is_is_known_from_those_that_are_done(threads, shelf):
    landing = land(threads, shelf, most_messages=4)
    assert landing.estimate_bytes() == 0
    landing.add(message(number) for number in range(10))
    assert landing.estimate_bytes() == 1_000_000
    landing.add([message(10, 210_000)])
    assert 1_000_000 < landing.estimate_bytes() <= 1_210_000


def test_a_disk_that_is_full_stops_the_batch_wherever_it_shows(threads, shelf):
    for ask in (lambda landing: list(landing.finish()), lambda landing: landing.estimate_bytes()):
        landing = land(threads, shelf)
        landing.add([message(0, begin=b"SIMPLE  =bad")])
        with pytest.raises(TransientError, match="full"):
            ask(landing)
    landing = land(threads, shelf, most_messages=1)
    with pytest.raises(TransientError, match="full"):
        landing.add([message(0, begin=b"SIMPLE  =bad"), message(1)])


def test_who_adds_waits_for_a_slow_disk(threads, shelf):
    shelf.open.clear()
    landing = land(threads, shelf, most_messages=5)
    feeder = threading.Thread(target=lambda: landing.add(message(number) for number in range(20)))
    feeder.start()
    feeder.join(0.3)
    assert feeder.is_alive()
    assert len(landing) <= 6
    shelf.open.set()
    feeder.join(10.0)
    assert len(list(landing.finish())) == 20
