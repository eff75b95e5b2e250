"""Dead letters on a real Kafka: whatever a message is and whatever its topic takes, the reader goes on."""

from __future__ import annotations

from contextlib import closing

import pytest

from pipeline.errors import UnreadableFrameError, UsageError
from pipeline.ports import SourcePosition
from pipeline.source import dead_letters
from pipeline.source.connection import KafkaConnection, open_admin
from pipeline.source.dead_letters import LEAST, DeadLetter, DeadLetterSink, read_letters, resend
from pipeline.source.kafka_log import KafkaLog
from pipeline.source.kafka_messages import KafkaMessage
from pipeline.source.messages import write_raw
from pipeline.source.producer import FrameProducer
from pipeline.source.topics import ask_limit
from tests.kafka_tools import make_topic

PLACE = SourcePosition("kafka:t:0", 7)
FAULT = UnreadableFrameError("not_fits", "ä" * 5_000)
UNKNOWN = 1 << 31


def bury(broker: KafkaConnection, graveyard: str, *messages: KafkaMessage) -> list[DeadLetter]:
    """What is read of the letters of messages, once these are kept."""
    with make_topic(broker) as source:
        with closing(DeadLetterSink(broker, graveyard, source)) as sink:
            for message in messages:
                sink.write(message, FAULT)
            sink.flush()
        return list(read_letters(broker, graveyard))


def test_a_message_with_more_headers_than_a_letter_takes_is_buried(broker):
    with make_topic(broker, max_message_bytes="1000000") as graveyard:
        (letter,) = bury(broker, graveyard, KafkaMessage(PLACE, b"v", (("a", b"bc"),) * 70_000))
    assert (letter.value, letter.headers, letter.code, letter.position) == (None, (), "not_fits", PLACE)


def test_a_topic_of_small_letters_takes_a_letter_of_any_message(broker):
    large = KafkaMessage(PLACE, bytes(5_000), (("FILTER", b"V"),))
    small = KafkaMessage(PLACE, b"v", ())
    with make_topic(broker, max_message_bytes=str(LEAST)) as graveyard:
        letters = bury(broker, graveyard, large, small)
    assert [(letter.value, letter.headers, letter.position) for letter in letters] == [(None, (), PLACE)] * 2
    assert all("ää" in letter.reason for letter in letters)


def test_a_topic_that_not_even_a_place_fits_in_is_refused_when_the_reader_starts(broker):
    with (
        make_topic(broker, max_message_bytes="1000") as graveyard,
        pytest.raises(UsageError, match=f"{graveyard} takes 1000 bytes; raise its max.message.bytes to {LEAST}"),
    ):
        bury(broker, graveyard)


def test_a_topic_is_made_where_the_limit_of_its_source_may_not_be_asked_for(broker, monkeypatch):
    monkeypatch.setattr(dead_letters, "ask_limit", lambda *_: UNKNOWN)
    with make_topic(broker) as other:
        graveyard = f"{other}-dead"
        try:
            (letter,) = bury(broker, graveyard, KafkaMessage(PLACE, b"v", ()))
            assert ask_limit(broker, graveyard) == 2**31 - 1
        finally:
            delete(broker, graveyard)
    assert letter.value == b"v"


def test_a_topic_whose_limit_may_not_be_asked_for_refuses_no_letter_for_good(broker, monkeypatch):
    monkeypatch.setattr("pipeline.source.producer.ask_limit", lambda *_: UNKNOWN)
    small = KafkaMessage(PLACE, b"v", (("FILTER", b"V"),))
    large = KafkaMessage(PLACE, bytes(50_000), ())
    with make_topic(broker, max_message_bytes="20000") as graveyard:
        letters = bury(broker, graveyard, small, large, large, large, large, large, small)
    assert [letter.value for letter in letters] == [b"v", *[None] * 5, b"v"]


def test_headers_of_any_text_come_back(broker):
    declared = {"": "no name", "ä ✓": "ü", "x": "", "n\nm": "\x00"}
    sent = write_raw(b"v", "a.fits", declared)
    with make_topic(broker) as graveyard, make_topic(broker) as source:
        (letter,) = bury(broker, graveyard, KafkaMessage(PLACE, sent.value, sent.headers))
        assert (letter.value, letter.headers) == (sent.value, sent.headers)
        with closing(FrameProducer(broker, source)) as producer:
            producer.send(resend(letter), "x")
            producer.flush()
        with closing(KafkaLog(broker, source)) as log:
            (again,) = log.read(f"kafka:{source}:0", 0, 1)
    assert again.headers[:-1] == sent.headers


def delete(connection: KafkaConnection, topic: str) -> None:
    admin = open_admin(connection)
    admin.delete_topics([topic], raise_errors=False)
    admin.close()
