"""Frames to a Kafka topic: in order, each once as far as the broker can tell, no more in flight than was allowed.

Three things kafka-python 3.0.12 leaves to its user: one message that is too large spoils an idempotent producer for
good, so sizes are looked at before sending and a producer that had an error is replaced; there is no bound on what
waits in memory, so the bytes that are not acknowledged are counted here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaProducer
from kafka.errors import AuthorizationError, KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from pipeline.errors import TransientError, UsageError
from pipeline.ports import SourcePosition
from pipeline.source.connection import KafkaConnection, explain, open_client
from pipeline.source.messages import Outgoing, write_claim, write_raw
from pipeline.source.parcels import park_file
from pipeline.source.places import name_partition
from pipeline.source.topics import ask_limit

_BATCH_BYTES = 1_048_576
_MOST_REPLACED = 3
_GRACE_SECONDS = 5.0
# A record batch has a head of 61 bytes, a record and a header of it a few of lengths each; all of it rounded up.
_MESSAGE_HEAD, _HEADER_HEAD = 256, 16


@dataclass(frozen=True, slots=True)
class ProducerRules:
    """How frames are sent.

    Attributes:
        max_message_bytes: of a message; the topic's own limit counts as well.
        max_in_flight_bytes: not yet acknowledged; whoever sends more waits.
        claim_above: files larger than this are sent as claim checks, if there is a directory for them.
        claim_directory: where claimed files are kept, one that readers allow as a root; None: no claim checks.
        seconds: how long a message may take to be acknowledged.
    """

    max_message_bytes: int = 48 * 1024 * 1024
    max_in_flight_bytes: int = 128 * 1024 * 1024
    claim_above: int = 8 * 1024 * 1024
    claim_directory: Path | None = None
    seconds: float = 60.0


@dataclass(slots=True, eq=False)
class _Pending:
    name: str
    message: Outgoing
    size: int
    future: Any = None

    @property
    def is_done(self) -> bool:
        return self.future is None or bool(self.future.is_done)

    @property
    def is_acknowledged(self) -> bool:
        return self.future is not None and bool(self.future.succeeded())

    @property
    def has_failed(self) -> bool:
        return self.future is not None and bool(self.future.failed())


class FrameProducer:
    """Sends messages to one topic; see the module's text. Not for more than one thread."""

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        rules: ProducerRules | None = None,
        on_sent: Callable[[str, SourcePosition], None] | None = None,
    ) -> None:
        """Connect.

        Args:
            connection: the cluster.
            topic: its topic, which must be there.
            rules: sizes and times.
            on_sent: told of every message, in order, when it is acknowledged: the name it was sent under, its place.

        Raises:
            UsageError: credentials are refused, or there is no such topic.
            TransientError: the cluster does not answer.
        """
        self._connection = connection
        self._topic = topic
        self._rules = rules or ProducerRules()
        self._on_sent = on_sent
        self._pending: deque[_Pending] = deque()
        self._in_flight = 0
        self._replaced = 0
        self.limit = min(self._rules.max_message_bytes, ask_limit(connection, topic))
        """Bytes that a message may have, its headers and some head included."""
        self._producer = self._open()

    def send_file(self, path: Path, metadata: Mapping[str, str] | None = None) -> None:
        """Send a file: as it is, or as a claim check where it is large.

        Raises:
            UsageError: it cannot be read, or is too large and there is no directory for claim checks.
            TransientError: as in `send`.
        """
        rules = self._rules
        try:
            size = path.stat().st_size
            if rules.claim_directory is not None and size > rules.claim_above:
                place, frame_id = park_file(path, rules.claim_directory)
                message = write_claim(place, frame_id, size, path.name, metadata)
            elif size > self.limit:
                raise self._refuse(path.name, size)
            else:
                message = write_raw(path.read_bytes(), path.name, metadata)
        except OSError as error:
            raise UsageError(f"cannot read the frame {path}: {error.strerror}") from error
        self.send(message, path.name)

    def send(self, message: Outgoing, name: str) -> None:
        """Send a message; waits while too much is in flight.

        Raises:
            UsageError: this message, or one before it, is larger than the topic takes; it was not sent, others are.
            TransientError: the cluster did not take what was sent in time; what is in flight is unknown.
        """
        size = measure(message)
        if size > self.limit:
            raise self._refuse(name, size)
        while self._pending and self._in_flight + size > self._rules.max_in_flight_bytes:
            self._settle()
        while self._pending and self._pending[0].is_done:
            self._settle()
        self._put(_Pending(name, message, size))

    def flush(self) -> None:
        """Wait until everything is acknowledged.

        Raises:
            UsageError: as in `send`.
            TransientError: as in `send`.
        """
        while self._pending:
            self._settle()

    def close(self) -> None:
        """Disconnect without waiting; `flush` first."""
        self._drop()
        self._pending.clear()
        self._in_flight = 0

    def _open(self) -> KafkaProducer:
        return open_client(
            KafkaProducer,
            self._connection,
            enable_idempotence=True,
            acks="all",
            max_request_size=self.limit,
            batch_size=min(_BATCH_BYTES, self.limit),
            delivery_timeout_ms=int(self._rules.seconds * 1000),
            request_timeout_ms=int(min(30.0, self._rules.seconds / 2) * 1000),
            max_block_ms=int(self._rules.seconds * 1000),
            allow_auto_create_topics=False,
        )

    def _put(self, pending: _Pending) -> None:
        self._pending.append(pending)
        self._in_flight += pending.size
        try:
            pending.future = self._hand_over(pending)
        except KafkaError:
            # Spoilt by a message before this one, whose future says why.
            self._replace()

    def _hand_over(self, pending: _Pending) -> Any:
        value, headers = pending.message.value, list(pending.message.headers)
        return self._producer.send(self._topic, value=value, headers=headers)

    def _settle(self) -> None:
        """Wait for the oldest message that is in flight."""
        oldest = self._pending[0]
        if oldest.future is None:
            self._replace()
        try:
            sent = oldest.future.get(timeout=self._rules.seconds + _GRACE_SECONDS)
        except MessageSizeTooLargeError as error:
            # It takes innocent ones along, before and behind it; they are smaller.
            guilty = max((p for p in self._pending if p.has_failed), key=lambda pending: pending.size)
            self._forget(guilty)
            self.limit = min(self.limit, ask_limit(self._connection, self._topic))
            self._replace()
            raise self._refuse(guilty.name, guilty.size) from error
        except AuthorizationError as error:
            raise explain(error, f"cannot send {oldest.name} to topic {self._topic}") from error
        except KafkaTimeoutError as error:
            # Whoever tries again has it sent again.
            oldest.future = None
            names = ", ".join(pending.name for pending in list(self._pending)[:3])
            raise TransientError(
                f"Kafka at {self._connection.bootstrap} did not acknowledge {len(self._pending)} messages within"
                f" {self._rules.seconds:g} s, first {names}"
            ) from error
        except KafkaError as error:
            if self._replaced == _MOST_REPLACED:
                raise explain(error, f"cannot send {oldest.name} to topic {self._topic}") from error
            self._replace()
            return
        self._replaced = 0
        self._forget(oldest)
        if self._on_sent is not None:
            self._on_sent(oldest.name, SourcePosition(name_partition(sent.topic, sent.partition), sent.offset))

    def _forget(self, pending: _Pending) -> None:
        self._pending.remove(pending)
        self._in_flight -= pending.size

    def _replace(self) -> None:
        """Make a new producer and send again what has no acknowledgement, in the same order.

        Raises:
            UsageError: this user may not send any more.
            TransientError: the cluster does not take it; what was not handed over is with the next attempt.
        """
        if self._replaced == _MOST_REPLACED:
            raise TransientError(f"cannot send to topic {self._topic}: the cluster refuses one producer after another")
        self._replaced += 1
        self._drop()
        self._producer = self._open()
        unsent = [pending for pending in self._pending if not pending.is_acknowledged]
        for pending in unsent:
            # Of the producer that is gone: nobody would ever answer it.
            pending.future = None
        for pending in unsent:
            try:
                pending.future = self._hand_over(pending)
            except KafkaError as error:
                raise explain(error, f"cannot send {pending.name} to topic {self._topic}") from error

    def _drop(self) -> None:
        # `close` alone leaves its thread at work where something is unsent: that would be sent twice.
        sender = self._producer._sender  # noqa: SLF001 - there is no other way to stop it
        sender.force_close()
        sender.join(_GRACE_SECONDS)
        with suppress(KafkaError):
            self._producer.close(timeout=0)

    def _refuse(self, name: str, size: int) -> UsageError:
        return UsageError(
            f"{name} is {size} bytes as a message, topic {self._topic} takes {self.limit}; send it as a claim check"
        )


def feed_topic(
    files: Iterable[Path],
    producer: FrameProducer,
    cadence_s: float = 0.0,
    sleep: Callable[[float], None] = time.sleep,
    on_file: Callable[[Path], None] | None = None,
    *,
    burst: int = 1,
) -> int:
    """Send frames at the pace of a camera: the telescope emulator (`pipeline.simulate.feed`) for a topic.

    Args:
        files: the frames, in order.
        producer: where to; flushed after every burst, so that a frame is on its way when it is said to be.
        cadence_s: seconds to wait between one burst and the next.
        sleep: waits that many seconds.
        on_file: told of every frame that was handed over.
        burst: frames that are sent together, without a wait between them.

    Returns:
        How many frames were sent.

    Raises:
        UsageError: a number makes no sense, or a frame cannot be sent.
        TransientError: the cluster did not take a frame; the ones before it are acknowledged.
    """
    if cadence_s < 0 or burst < 1:
        raise UsageError(f"a cadence of {cadence_s} s with bursts of {burst} frames makes no sense")
    sent = 0
    for file in files:
        if sent and sent % burst == 0 and cadence_s > 0:
            producer.flush()
            sleep(cadence_s)
        producer.send_file(file)
        sent += 1
        if on_file is not None:
            on_file(file)
    producer.flush()
    return sent


def measure(message: Outgoing) -> int:
    """Bytes of a message as a topic's limit counts them, rounded up."""
    headers = sum(len(key.encode()) + len(content) + _HEADER_HEAD for key, content in message.headers)
    return len(message.value) + headers + _MESSAGE_HEAD
