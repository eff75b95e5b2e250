"""Fixtures of the suites that need a real Kafka. A module that wants another topic has its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.source.connection import KafkaConnection
from tests.kafka_tools import make_topic
from tests.stack import require_stack


@pytest.fixture(scope="module")
def broker() -> KafkaConnection:
    return KafkaConnection(bootstrap=f"127.0.0.1:{require_stack().port('kafka')}", seconds=10.0)


@pytest.fixture
def topic(broker) -> Iterator[str]:
    with make_topic(broker) as name:
        yield name
