"""Dead letters -> the topic they came from, once each: those sent are positions that `quarantine` holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from pipeline.ports import SourcePosition, TableStore
from pipeline.source.dead_letters import DeadLetter, resend
from pipeline.source.kafka_messages import KafkaMessage
from pipeline.source.messages import Outgoing

Tell = Callable[[DeadLetter], None]


class Sender(Protocol):
    """A topic that messages are sent to; see `FrameProducer`."""

    def send(self, message: Outgoing, name: str) -> None:
        """Send a message."""

    def flush(self) -> None:
        """Wait until every one is acknowledged."""


def redrive_letters(
    letters: Iterable[DeadLetter],
    find: Callable[[SourcePosition], KafkaMessage | None],
    sender: Sender,
    tables: TableStore,
    tell: Tell,
) -> int:
    """Send letters once more; returns how many.

    A process that is killed in between sends some of them twice: a further delivery of what is known is harmless.

    Args:
        letters: not sent again yet.
        find: a message in the topic it came from, for a letter whose value was too large to be kept with it.
        sender: to that topic.
        tables: where is noted what was sent.
        tell: told of each letter.

    Raises:
        TransientError: the cluster or the catalogue does not answer.
        StoreError: the value of a letter is nowhere any more.
    """
    sent: list[SourcePosition] = []
    for letter in letters:
        sender.send(resend(_make_whole(letter, find)), f"letter {letter.position.partition} {letter.position.offset}")
        if letter.place is not None:
            sent.append(letter.place)
        tell(letter)
    sender.flush()
    tables.append("quarantine", [], sent)
    return len(sent)


def _make_whole(letter: DeadLetter, find: Callable[[SourcePosition], KafkaMessage | None]) -> DeadLetter:
    message = find(letter.position) if letter.value is None else None
    if message is None:
        return letter
    return DeadLetter(message.value, letter.headers, letter.code, letter.reason, letter.position, letter.at)
