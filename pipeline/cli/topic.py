"""`topic lag | letters | redrive`: how far the lake is in a topic, what gave no frame, and once more."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from cyclopts import App

from pipeline.cli.app import COMMON, EXIT_DIFFERENCE, Common
from pipeline.cli.output import print_lines, remark, show
from pipeline.parts import find_kafka, name_dead_letters, open_tables
from pipeline.settings import Settings, load_settings

if TYPE_CHECKING:
    from pipeline.errors import OddframeError
    from pipeline.source.dead_letters import DeadLetter

topic = App(name="topic", help="The Kafka topic that frames come in: lag, dead letters, re-drive.")

_STANDING = ("partition", "begin", "end", "next", "lag", "expired")
_LETTER = ("code", "partition", "offset", "at", "bytes", "again", "reason")


@topic.command
def lag(name: str | None = None, *, common: Common = COMMON) -> int:
    """How far the lake has come in each partition, by what it holds; no reader need run.

    Parameters
    ----------
    name
        The topic; by default the one of the settings.
    """
    from pipeline.source.kafka_log import KafkaLog  # noqa: PLC0415 - the client of Kafka loads slowly

    settings = load_settings(common.home)
    with (
        closing(open_tables(settings)) as tables,
        closing(KafkaLog(find_kafka(settings), name or settings.kafka.topic)) as log,
    ):
        standings = log.list_standings(tables.positions("deliveries"))
    lines = [{column: getattr(standing, column) for column in _STANDING} for standing in standings]
    print_lines(lines, as_json=common.json, columns=_STANDING)
    remark(f"{sum(line['lag'] for line in lines)} messages to come")
    return 0


@topic.command
def letters(name: str | None = None, *, common: Common = COMMON) -> int:
    """Messages that gave no frame, with the cause; `again` where one was sent once more since.

    Parameters
    ----------
    name
        The topic they came from; by default the one of the settings.
    """
    settings = load_settings(common.home)
    print_lines(_list_letters(settings, name or settings.kafka.topic), as_json=common.json, columns=_LETTER)
    return 0


@topic.command
def redrive(name: str | None = None, *, common: Common = COMMON) -> int:
    """Send every dead letter that was not sent again yet to its topic once more; whoever watches it tries it anew.

    One that cannot be sent is named on stderr and left as it is; the exit code is 1 then.

    Parameters
    ----------
    name
        The topic they came from; by default the one of the settings.
    """
    # The client of Kafka loads slowly.
    from pipeline.run.redrive import redrive_letters  # noqa: PLC0415
    from pipeline.source.dead_letters import read_letters  # noqa: PLC0415
    from pipeline.source.kafka_log import KafkaLog  # noqa: PLC0415
    from pipeline.streams import open_producer  # noqa: PLC0415

    settings = load_settings(common.home)
    source, connection = name or settings.kafka.topic, find_kafka(settings)
    lines: list[dict[str, Any]] = []
    failed: list[DeadLetter] = []

    def tell(letter: DeadLetter, problem: OddframeError | None) -> None:
        if problem is None:
            lines.append(_to_line(letter))
            return
        failed.append(letter)
        remark(show(f"{letter.position.partition} {letter.position.offset} was not sent: {problem}"))

    with (
        closing(open_tables(settings)) as tables,
        closing(KafkaLog(connection, source)) as log,
        open_producer(settings, source) as producer,
    ):
        waiting = read_letters(connection, name_dead_letters(source), tables.positions("quarantine"))
        sent = redrive_letters(waiting, log.find, producer, tables, tell)
    print_lines(lines, as_json=common.json, columns=_LETTER[:-2] + _LETTER[-1:])
    remark(f"{sent} messages sent to {source} once more" + (f", {len(failed)} could not be" if failed else ""))
    return EXIT_DIFFERENCE if failed else 0


def _list_letters(settings: Settings, source: str) -> list[dict[str, Any]]:
    from pipeline.source.dead_letters import read_letters  # noqa: PLC0415 - as above

    with closing(open_tables(settings)) as tables:
        sent = tables.positions("quarantine")
        return [
            {**_to_line(letter), "again": letter.place is not None and sent.holds(letter.place)}
            for letter in read_letters(find_kafka(settings), name_dead_letters(source))
        ]


def _to_line(letter: Any) -> dict[str, Any]:
    return {
        "code": letter.code,
        "partition": letter.position.partition,
        "offset": letter.position.offset,
        "at": letter.at,
        "bytes": None if letter.value is None else len(letter.value),
        "reason": letter.reason,
    }
