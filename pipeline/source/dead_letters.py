"""Messages that gave no frame, kept whole in a topic of their own with the cause, and read back to be tried again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from pipeline.clock import now_utc
from pipeline.errors import StoreError, UnreadableFrameError
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

_LONGEST_REASON = 2_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that gave no frame.

    Attributes:
        value: the original bytes; None where they were too many even for this topic: they are at `position`.
        headers: the original ones.
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
            UsageError: credentials are refused, or there is no source topic.
            TransientError: the cluster does not answer.
        """
        limit = ask_limit(connection, source_topic) + _ROOM
        create_topic(connection, topic, settings={LIMIT: str(limit), "retention.ms": "-1"})
        self._producer = FrameProducer(connection, topic, ProducerRules(max_message_bytes=limit))

    def write(self, message: KafkaMessage, error: UnreadableFrameError) -> None:
        """Hand a message over with its cause; it is kept once `flush` has returned.

        Raises:
            TransientError: the cluster does not take it.
        """
        reason = error.reason[:_LONGEST_REASON]
        letter = DeadLetter(message.value, _strip(message.headers), error.code, reason, message.position, now_utc())
        outgoing = write_letter(letter, self._producer.limit)
        self._producer.send(outgoing, message.name)

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
    """A dead letter as a message; one that would be over the limit leaves its value where it came from."""
    declared = {
        _CODE: letter.code,
        _REASON: letter.reason,
        _PARTITION: letter.position.partition,
        _OFFSET: str(letter.position.offset),
        _AT: letter.at.isoformat(),
    }
    own = tuple((key, text.encode("utf-8", "backslashreplace")) for key, text in declared.items())
    whole = Outgoing(letter.value or b"", (*letter.headers, *own))
    if letter.value is not None and measure(whole) <= limit:
        return whole
    size = 0 if letter.value is None else len(letter.value)
    return Outgoing(b"", (*letter.headers, *own, (_LEFT_OUT, str(size).encode())))


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
    return DeadLetter(value, _strip(message.headers), code, reason, position, at, message.position)


def resend(letter: DeadLetter) -> Outgoing:
    """The original message, to be sent to a source topic again.

    Raises:
        StoreError: its bytes were left out; fetch them from the source with `KafkaLog.find`.
    """
    if letter.value is None:
        raise StoreError(
            f"the bytes of {letter.position.partition} at {letter.position.offset} are in the source alone"
        )
    return Outgoing(letter.value, (*letter.headers, (AGAIN_HEADER, b"yes")))


def _strip(headers: Headers) -> tuple[tuple[str, bytes], ...]:
    return tuple((key, content or b"") for key, content in headers if not key.startswith((_OURS, AGAIN_HEADER)))
