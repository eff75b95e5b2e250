"""Settings in, a topic out: readers that bring it into the lake, and senders. Loads the client of Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from pipeline.parts import (
    ensure_topic,
    find_claim_directory,
    find_claim_roots,
    find_kafka,
    name_dead_letters,
    open_tables,
    open_vectors,
)
from pipeline.run.batch import IngestRequest
from pipeline.run.consume import Consumer, ConsumeRules, TopicFrames
from pipeline.run.ingest import Ingestor
from pipeline.run.lake import KillSwitch
from pipeline.run.memory import keep_buffers, keep_modules
from pipeline.settings import Settings
from pipeline.source.dead_letters import DeadLetterSink
from pipeline.source.kafka import KafkaSource
from pipeline.source.kafka_group import PollRules
from pipeline.source.messages import MessageRules
from pipeline.source.producer import FrameProducer, ProducerRules
from pipeline.wiring import build_lake, lock_stores


@contextmanager
def open_consumer(
    settings: Settings, topic: str, request: IngestRequest, *, once: bool = False, switch: KillSwitch | None = None
) -> Iterator[Consumer]:
    """A topic and the lake it goes into; several processes at a time where the stores are shared.

    Raises:
        LockedError: another process has the embedded stores open.
        TransientError: a service does not answer.
        UsageError: credentials are refused, or there is no such topic for this user.
    """
    kafka, connection = settings.kafka, find_kafka(settings)
    ensure_topic(connection, topic, kafka.partitions)
    with ExitStack() as stack:
        stack.enter_context(lock_stores(settings))
        tables = stack.enter_context(closing(open_tables(settings)))
        vectors = stack.enter_context(closing(open_vectors(settings)))
        poll = PollRules(max_bytes=kafka.poll_bytes, session_seconds=kafka.session_seconds)
        source = stack.enter_context(
            closing(KafkaSource(connection, topic, kafka.group, lambda: tables.positions("deliveries"), poll))
        )
        letters = stack.enter_context(closing(DeadLetterSink(connection, name_dead_letters(topic), topic)))
        keep_buffers()
        keep_modules()
        lake = build_lake(settings, tables, vectors, TopicFrames(source))
        ingestor = stack.enter_context(Ingestor(lake, request, switch))
        yield Consumer(lake, ingestor, source, letters, _build_consume_rules(settings, once=once))


@contextmanager
def open_producer(settings: Settings, topic: str) -> Iterator[FrameProducer]:
    """A sender of frames to a topic, which is made where it is not there.

    Raises:
        TransientError: the cluster does not answer.
        UsageError: credentials are refused, or we may not.
    """
    kafka, connection = settings.kafka, find_kafka(settings)
    ensure_topic(connection, topic, kafka.partitions)
    rules = ProducerRules(claim_above=kafka.claim_above, claim_directory=find_claim_directory(settings))
    with closing(FrameProducer(connection, topic, rules)) as producer:
        yield producer


def _build_consume_rules(settings: Settings, *, once: bool) -> ConsumeRules:
    batch = settings.batch
    return ConsumeRules(
        MessageRules(settings.decode.max_bytes, find_claim_roots(settings)),
        frames=batch.frames,
        seconds=batch.seconds,
        bulk_frames=batch.bulk_frames,
        bulk_bytes=batch.bulk_bytes,
        held_bytes=settings.kafka.poll_bytes,
        once=once,
    )
