"""Topics that tests make on a real broker and take away again, messages to fill them with, a lake in memory."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from pipeline.errors import TransientError
from pipeline.ports import SourcePosition
from pipeline.source.connection import KafkaConnection, open_admin
from pipeline.source.kafka import KafkaSource
from pipeline.source.kafka_messages import KafkaMessage, list_covered
from pipeline.source.messages import Outgoing
from pipeline.source.producer import FrameProducer, ProducerRules
from pipeline.source.topics import create_topic
from pipeline.store.positions import PositionSet


class Lake:
    """What was committed: positions as a table holds them, and every value in the order it came."""

    def __init__(self) -> None:
        self.held = PositionSet()
        self.values: list[bytes] = []

    def positions(self) -> PositionSet:
        return self.held

    def commit(self, messages: Iterable[KafkaMessage]) -> None:
        messages = list(messages)
        self.held = self.held.add(list_covered(messages))
        self.values += [message.value or b"" for message in messages]


@contextmanager
def make_topic(connection: KafkaConnection, partitions: int = 1, **settings: str) -> Iterator[str]:
    topic = f"test-{secrets.token_hex(6)}"
    create_topic(connection, topic, partitions, {key.replace("_", "."): value for key, value in settings.items()})
    try:
        yield topic
    finally:
        # A broker that a test killed takes its topics along.
        with suppress(TransientError):
            admin = open_admin(connection)
            admin.delete_topics([topic], raise_errors=False)
            admin.close()


def send(
    connection: KafkaConnection, topic: str, values: Iterable[bytes], rules: ProducerRules | None = None
) -> list[SourcePosition]:
    places: list[SourcePosition] = []
    producer = FrameProducer(connection, topic, rules, lambda _name, place: places.append(place))
    for value in values:
        producer.send(Outgoing(value), "m")
    producer.flush()
    producer.close()
    return places


def poll_until(source: KafkaSource, count: int, seconds: float = 30.0) -> list[KafkaMessage]:
    """So many messages, or what came in the time there is; asked for in small portions."""
    deadline, got = time.monotonic() + seconds, list[KafkaMessage]()
    while len(got) < count and time.monotonic() < deadline:
        got += source.poll(count - len(got), 0.2)
    return got


def work(source: KafkaSource, lake: Lake, enough: Callable[[], bool], seconds: float = 60.0) -> None:
    """What a pipeline does, until it is enough: poll, ask, commit, acknowledge."""
    deadline = time.monotonic() + seconds
    while not enough() and time.monotonic() < deadline:
        messages = source.poll(8, 0.2)
        mine = source.still_mine([message.position for message in messages])
        lake.commit(message for message in messages if message.position in mine)
        source.acknowledge([message.position for message in messages])
