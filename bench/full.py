"""The full profile to measure on: services of their own, and a lake in them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.parts import find_kafka
from pipeline.run.batch import IngestRequest, Purpose
from pipeline.run.ingest import Ingestor
from pipeline.sections import BatchSettings, KafkaSettings, StackSettings, StoreSettings
from pipeline.settings import Settings
from pipeline.source.topics import create_topic
from pipeline.stack.layout import Layout
from pipeline.wiring import open_lake
from tests.stack import lend_stack

_SERVICES = ("kafka", "catalog", "milvus")
_LARGEST = 48 * 2**20


@contextmanager
def open_services() -> Iterator[tuple[Layout, Path]]:
    """Kafka, catalogue and Milvus, and a directory for everything else; all of it goes with this process."""
    with lend_stack(_SERVICES) as (layout, _):
        yield layout, layout.data


def make_lake(
    layout: Layout, data: Path, references: list[Path], batch: BatchSettings | None = None, partitions: int = 4
) -> Settings:
    """A namespace and a topic of its own, with references in it."""
    name = f"bench_{secrets.token_hex(4)}"
    settings = Settings(
        home=data / "homes" / name,
        profile="full",
        stores=StoreSettings(namespace=name),
        stack=StackSettings(first_port=layout.first_port, data=layout.data, cache=layout.cache),
        kafka=KafkaSettings(topic=name, group=name),
        batch=batch or BatchSettings(),
    )
    create_topic(find_kafka(settings), name, partitions, {"max.message.bytes": str(_LARGEST)})
    with open_lake(settings) as lake, Ingestor(lake, IngestRequest(Purpose.REFERENCE)) as ingestor:
        list(ingestor.ingest(references))
    return settings
