"""Dead letters -> the topic they came from, once each: those sent are positions that `quarantine` holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Protocol

from pipeline.errors import OddframeError, StoreError, UsageError
from pipeline.ports import SourcePosition, TableStore
from pipeline.source.dead_letters import DeadLetter, resend, strip_headers
from pipeline.source.kafka_messages import KafkaMessage
from pipeline.source.messages import Outgoing

Find = Callable[[SourcePosition], KafkaMessage | None]
Tell = Callable[[DeadLetter, OddframeError | None], None]


class Sender(Protocol):
    """A topic that messages are sent to; see `FrameProducer`."""

    def send(self, message: Outgoing, name: str) -> None:
        """Send a message."""

    def flush(self) -> None:
        """Wait until every one is acknowledged."""


def redrive_letters(letters: Iterable[DeadLetter], find: Find, sender: Sender, tables: TableStore, tell: Tell) -> int:
    """Send letters once more; returns how many. One that cannot be sent is told of, and the next one follows.

    What was sent is noted at the end, also where an error is the end. A process that is killed in between sends some of
    them twice: a further delivery of what is known is harmless.

    Args:
        letters: not sent again yet.
        find: a message in the topic it came from, for a letter that has no value with it.
        sender: to that topic.
        tables: where is noted what was sent.
        tell: told of each letter, and why it could not be sent, or None.

    Raises:
        TransientError: the cluster or the catalogue does not answer.
        StoreError: what comes as a letter is none.
    """
    sent: list[SourcePosition] = []
    try:
        for letter in letters:
            problem = _send(letter, find, sender)
            if problem is None and letter.place is not None:
                sent.append(letter.place)
            tell(letter, problem)
    finally:
        tables.append("quarantine", [], sent)
    return len(sent)


def _send(letter: DeadLetter, find: Find, sender: Sender) -> OddframeError | None:
    try:
        sender.send(resend(_make_whole(letter, find)), f"the message at {letter.position.offset}")
        # Each by itself: a refusal that comes later may be of any message before it.
        sender.flush()
    except (UsageError, StoreError) as error:
        return error
    return None


def _make_whole(letter: DeadLetter, find: Find) -> DeadLetter:
    message = find(letter.position) if letter.value is None else None
    if message is None:
        return letter
    # The letter's headers go with the value that it would have had: maybe not in the form in which it came.
    return replace(letter, value=message.value or b"", headers=strip_headers(message.headers))
