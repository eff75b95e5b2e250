"""Processes that read a world's topic: to the end, for ever, or until they die at a named step."""

from __future__ import annotations

import signal
import sys
from threading import Event
from typing import Any

import pipeline.streams
from pipeline.run.batch import IngestRequest
from pipeline.run.follow import follow
from pipeline.run.lake import KillSwitch
from pipeline.settings import Settings
from pipeline.source.kafka import KafkaSource
from pipeline.store.positions import PositionSet
from pipeline.streams import open_consumer
from tests.lake_tools import die_at

STEPS = (
    *("number", "index", "judge", "commit frames", "commit quarantine", "commit detections", "commit verdicts"),
    *("commit deliveries", "acknowledge"),
)
_REQUEST = IngestRequest(record_duplicates=True)


def read_once(settings: Settings, step: str | None = None, times: int = 1) -> None:
    """Read what is there; with a step, die when it is reached for so many times."""
    switch = KillSwitch(die_at(step, times) if step else None)
    with open_consumer(settings, settings.kafka.topic, _REQUEST, once=True, switch=switch) as consumer:
        for _ in consumer.consume(lambda: False):
            pass


def read_all_again(settings: Settings) -> None:
    """Read the topic from its start, as one who does not know what the lake holds."""

    def forgetful(*given: Any) -> KafkaSource:
        connection, topic, group, _, rules = given
        source = KafkaSource(connection, topic, group, PositionSet, rules)
        # It knows what it read itself; else it would never come to an end.
        source.has_read = lambda ends: all(source.lag().get(part) == 0 for part in ends)  # type: ignore[method-assign]
        return source

    pipeline.streams.KafkaSource = forgetful  # type: ignore[misc,assignment]
    read_once(settings)


def read_on(settings: Settings) -> None:
    """Read until told to stop, whatever is away meanwhile."""
    stopped = Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    for _ in follow(
        lambda: open_consumer(settings, settings.kafka.topic, _REQUEST),
        stopped.is_set,
        lambda text: sys.stderr.write(f"    worker: {text[:150]}\n"),
    ):
        pass
