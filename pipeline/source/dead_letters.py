"""Messages that gave no frame, in a topic of their own with the cause, and read back to be tried again.

A letter has its message's value and headers, not its key; a large envelope or claim check comes as a raw message, see
`pipeline.run.message`. What the topic does not take stays in the source topic alone: the value, then the headers too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from pipeline.clock import now_utc
from pipeline.errors import StoreError, UnreadableFrameError, UsageError
from pipeline.ports import Positions, SourcePosition
from pipeline.source.connection import KafkaConnection
from pipeline.source.kafka_log import KafkaLog
from pipeline.source.kafka_messages import KafkaMessage
from pipeline.source.messages import AGAIN_HEADER, Headers, Outgoing
from pipeline.source.producer import FrameProducer, ProducerRules, measure
from pipeline.source.topics import LIMIT, ask_limit, create_topic

_OURS = "oddframe-dead-"
_CODE, _REASON, _PARTITION, _OFFSET, _AT = (_OURS + name for name in ("code", "reason", "partition", "offset", "at"))
_LEFT_OUT = _OURS + "left-out"
_ROOM = 65_536
"""What cause and place may add to a message that was as large as its topic takes."""

LEAST = 2_048
"""Bytes of a message that code, place and some of the reason fit in, however long the name of the source topic is."""

_MOST = 2**31 - 1
"""What a topic's limit can be at most: Kafka's own type for it."""

_LONGEST_REASON = 2_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that gave no frame.

    Attributes:
        value: the original bytes; None where they are at `position` alone.
        headers: the original ones; none where they were too many even without the value.
        position: where it came from.
        place: where this letter is; None before it is written.
    """

    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    code: str
    reason: str
    position: SourcePosition
    at: datetime
    place: SourcePosition | None = None


class DeadLetterSink:
    """Writes dead letters of one source topic."""

    def __init__(self, connection: KafkaConnection, topic: str, source_topic: str) -> None:
        """Make the topic where it is not there, with room for the largest message of the source topic.

        Raises:
            UsageError: credentials are refused, there is no source topic, or the topic takes no message of `LEAST`.
            TransientError: the cluster does not answer.
        """
        limit = min(ask_limit(connection, source_topic) + _ROOM, _MOST)
        create_topic(connection, topic, settings={LIMIT: str(limit), "retention.ms": "-1"})
        # The topic's own limit alone counts; more than it can be is one that we may not ask for.
        self._producer = FrameProducer(connection, topic, ProducerRules(max_message_bytes=_MOST + 1))
        if self._producer.limit < LEAST:
            self._producer.close()
            raise UsageError(f"topic {topic} takes {self._producer.limit} bytes; raise its {LIMIT} to {LEAST} or more")

    def write(self, message: KafkaMessage, error: UnreadableFrameError) -> None:
        """Hand a message over with its cause; it is kept once `flush` has returned.

        Raises:
            UsageError: the cluster does not let us write.
            TransientError: the cluster does not take it.
        """
        reason, headers = error.reason[:_LONGEST_REASON], strip_headers(message.headers)
        letter = DeadLetter(message.value, headers, error.code, reason, message.position, now_utc())
        if self._producer.limit <= _MOST:
            self._producer.send(write_letter(letter, self._producer.limit), message.name)
            return
        try:
            self._producer.send(write_letter(letter, _MOST), message.name)
            # The limit shows by what the topic refuses; by itself, so that it is known which letter it refuses.
            self._producer.flush()
        except UsageError:
            self._producer.send(write_letter(letter, LEAST), message.name)

    def flush(self) -> None:
        """Wait until every letter is kept: before the lake says that it holds their messages.

        Raises:
            TransientError: the cluster does not take them.
        """
        self._producer.flush()

    def close(self) -> None:
        """Disconnect; `flush` first."""
        self._producer.close()


def read_letters(connection: KafkaConnection, topic: str, held: Positions | None = None) -> Iterator[DeadLetter]:
    """Every dead letter of a topic, oldest first in each partition, as it stood when reading began.

    Args:
        connection: the cluster.
        topic: of the letters.
        held: letters whose `place` is in here were tried again before and are left out.

    Raises:
        UsageError: credentials are refused, or there is no such topic.
        TransientError: the cluster does not answer.
        StoreError: something in the topic is no dead letter.
    """
    log = KafkaLog(connection, topic)
    try:
        for partition, (begin, end) in log.list_ranges().items():
            for message in log.read(partition, begin, end):
                if held is None or not held.holds(message.position):
                    yield read_letter(message)
    finally:
        log.close()


def write_letter(letter: DeadLetter, limit: int) -> Outgoing:
    """A dead letter as a message of at most `limit` bytes, if these are `LEAST` or more.

    What makes it larger is left where it came from: the value, then the headers too; then the reason is cut short.
    """
    reason = letter.reason.encode()
    own = _write_cause(letter, reason)
    whole = Outgoing(letter.value or b"", (*letter.headers, *own))
    if letter.value is not None and measure(whole) <= limit:
        return whole
    left_out = (_LEFT_OUT, str(len(whole.value)).encode())
    light = Outgoing(b"", (*letter.headers, *own, left_out))
    if measure(light) <= limit:
        return light
    excess = max(measure(Outgoing(b"", (*own, left_out))) - limit, 0)
    # Not in the middle of a character.
    cut = reason[: max(len(reason) - excess, 0)].decode("utf-8", "ignore").encode()
    return Outgoing(b"", (*_write_cause(letter, cut), left_out))


def _write_cause(letter: DeadLetter, reason: bytes) -> tuple[tuple[str, bytes], ...]:
    return (
        (_CODE, letter.code.encode()),
        (_REASON, reason),
        (_PARTITION, letter.position.partition.encode()),
        (_OFFSET, str(letter.position.offset).encode()),
        (_AT, letter.at.isoformat().encode()),
    )


def read_letter(message: KafkaMessage) -> DeadLetter:
    """The dead letter that a message is.

    Raises:
        StoreError: it is none.
    """
    known = {key: (content or b"").decode("utf-8", "replace") for key, content in message.headers}
    try:
        position = SourcePosition(known[_PARTITION], int(known[_OFFSET]))
        at = datetime.fromisoformat(known[_AT])
        code, reason = known[_CODE], known[_REASON]
    except (KeyError, ValueError) as error:
        raise StoreError(f"{message.name} is no dead letter: {error}") from error
    value = None if _LEFT_OUT in known else message.value or b""
    return DeadLetter(value, strip_headers(message.headers), code, reason, position, at, message.position)


def resend(letter: DeadLetter) -> Outgoing:
    """The original message, to be sent to a source topic again.

    Raises:
        StoreError: its bytes were left out, and nobody has fetched them.
    """
    if letter.value is None:
        raise StoreError("its letter has no bytes, and its topic keeps it no longer; have its sender send it again")
    return Outgoing(letter.value, (*letter.headers, (AGAIN_HEADER, b"yes")))


def strip_headers(headers: Headers) -> tuple[tuple[str, bytes], ...]:
    """The headers that a message came with from its sender; one without a content says nothing and is left out."""
    return tuple(
        (key, content) for key, content in headers if content is not None and not key.startswith((_OURS, AGAIN_HEADER))
    )
