"""Messages that other clients may send and the library cannot make a record of: each comes, and none stops a topic."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing

import pytest
from kafka import KafkaProducer, codec

from pipeline.errors import UsageError
from pipeline.source.connection import KafkaConnection
from pipeline.source.kafka import KafkaSource
from pipeline.source.kafka_log import KafkaLog
from pipeline.source.messages import MessageRules, read_message
from pipeline.store.positions import PositionSet
from tests.kafka_tools import make_topic, poll_until, send

_YEAR_10000_MS = 253_402_300_800_000
_ANY_TIME = str(2**63 - 1)


class Bytes(str):
    """A header's key that goes out as bytes of its own, as clients in C send them."""

    __slots__ = ()

    def encode(self, *_: str) -> bytes:
        return super().encode("latin-1")


@pytest.fixture
def topic(broker) -> Iterator[str]:
    with make_topic(broker, message_timestamp_after_max_ms=_ANY_TIME) as name:
        yield name


def read_all(broker: KafkaConnection, topic: str, count: int) -> list:
    """The topic's messages as a reader of a group has them; one who reads beside the groups must have the same."""
    with closing(KafkaSource(broker, topic, f"test-{secrets.token_hex(6)}", PositionSet)) as source:
        messages = poll_until(source, count, 10.0)
    with closing(KafkaLog(broker, topic)) as log:
        assert list(log.read(f"kafka:{topic}:0", 0, count)) == messages
    return messages


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
def test_a_header_whose_key_is_not_utf8_comes_with_the_bytes_spelt_out(broker, topic, compression):
    # One batch: what stands before and behind it comes from the same bytes.
    producer = KafkaProducer(**broker.options(), linger_ms=500, compression_type=compression)
    for number in range(6):
        key = Bytes("FILT\xcb\xff") if number in {2, 3, 5} else "FILTER"
        producer.send(topic, b"SIMPLE  =%d" % number, headers=[("EXPTIME", b"30"), (key, b"V"), ("OBJECT", b"M31")])
    producer.flush()
    producer.close()
    messages = read_all(broker, topic, 6)
    assert [message.value for message in messages] == [b"SIMPLE  =%d" % number for number in range(6)]
    keys = [message.headers[1][0] for message in messages]
    assert keys == ["FILTER", "FILTER", "FILT\\xcb\\xff", "FILT\\xcb\\xff", "FILTER", "FILT\\xcb\\xff"]
    assert {(message.headers[0], message.headers[2]) for message in messages} == {
        (("EXPTIME", b"30"), ("OBJECT", b"M31"))
    }
    frame = read_message(messages[2].value, messages[2].headers, MessageRules(100), name="frame")
    assert dict(frame.metadata) == {"EXPTIME": "30", "FILT\\xcb\\xff": "V", "OBJECT": "M31"}


def test_a_message_of_the_year_10000_comes(broker, topic):
    producer = KafkaProducer(**broker.options())
    for stamp in (0, _YEAR_10000_MS, 2**62):
        producer.send(topic, b"frame", timestamp_ms=stamp)
    producer.flush()
    producer.close()
    assert [message.position.offset for message in read_all(broker, topic, 3)] == [0, 1, 2]


def test_a_codec_that_is_not_installed_is_for_a_person_to_mend(broker, monkeypatch):
    monkeypatch.setattr(codec, "has_lz4", lambda: False)
    with make_topic(broker, compression_type="lz4") as topic:
        send(broker, topic, [b"frame"])
        with pytest.raises(UsageError, match="install the codec"):
            read_all(broker, topic, 1)
