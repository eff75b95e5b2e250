"""`ingest` and `watch`: frames in, verdicts out."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Annotated, cast

from cyclopts import Parameter

from pipeline.cli.app import COMMON, Common
from pipeline.cli.output import print_json, print_table, remark, show, show_progress
from pipeline.cli.ranges import FromOne, Seconds
from pipeline.errors import UsageError
from pipeline.parts import choose
from pipeline.ports import Spool
from pipeline.run.batch import IngestRequest
from pipeline.run.ingest import Ingestor
from pipeline.run.land import expand_paths
from pipeline.run.report import Report
from pipeline.run.watch import WatchRules, watch_spool
from pipeline.settings import Settings, load_settings
from pipeline.wiring import open_lake

COLUMNS = ("name", "status", "p_value", "sigma", "reason")


def ingest(
    *paths: str,
    embedding: str | None = None,
    again: Annotated[bool, Parameter(negative="")] = False,
    quarantined: Annotated[bool, Parameter(negative="")] = False,
    common: Common = COMMON,
) -> int:
    """Bring frames in, compare each with its references and say what it is.

    Parameters
    ----------
    paths
        Files, directories (walked; texts that lie beside frames are left alone) or patterns; also .gz, .bz2 and .fz.
    embedding
        Judge under this embedding; by default the best that the references allow.
    again
        Write a new verdict on frames that are known, against the references as they are now.
    quarantined
        Try everything that is in quarantine once more.
    """
    if not paths and not quarantined:
        raise UsageError("nothing to ingest; name files, a directory or a pattern, or use --quarantined")
    files = expand_paths(paths)
    reports: list[Report] = []
    with (
        open_lake(load_settings(common.home)) as lake,
        Ingestor(lake, IngestRequest(embedding=embedding, judge_again=again)) as ingestor,
        show_progress("ingest", len(files)) as advance,
    ):
        redriven = ingestor.redrive() if quarantined else iter(())
        for source in (redriven, ingestor.ingest(files)):
            for report in source:
                advance(report["name"])
                if common.json:
                    print_json(report)
                else:
                    reports.append(report)
    if not common.json:
        print_table(reports, COLUMNS, f"{len(reports)} frames")
    return 0


def watch(
    spool: Path | None = None,
    *,
    topic: str | None = None,
    once: Annotated[bool, Parameter(negative="")] = False,
    embedding: str | None = None,
    frames: FromOne | None = None,
    seconds: Seconds | None = None,
    common: Common = COMMON,
) -> int:
    """Follow a spool directory or a Kafka topic until interrupted; the batch in hand is finished first.

    Parameters
    ----------
    spool
        Directory that frames appear in. Names that begin with a dot are still being written.
    topic
        Topic that frames come in; where neither is given, what the settings say.
    once
        With a topic: stop when everything was read that was there.
    embedding
        Judge under this embedding; by default the best that the references allow.
    frames
        Commit after this many frames, or
    seconds
        this long after the first of them was seen.
    """
    settings = load_settings(common.home)
    if frames is not None:
        settings = _change_batch(settings, frames=frames)
    if seconds is not None:
        settings = _change_batch(settings, seconds=seconds)
    stopped = Event()
    _stop_on_signals(stopped)
    if spool is None and topic is None and choose(settings).frames == "kafka":
        topic = settings.kafka.topic
    if (spool is None) == (topic is None):
        raise UsageError("name a spool directory, or a topic with --topic")
    request = IngestRequest(embedding=embedding, record_duplicates=True)
    if spool is not None:
        reports = _watch_spool(settings, spool, request, stopped)
    else:
        reports = _watch_topic(settings, str(topic), request, stopped, once=once)
    counts: dict[str, int] = {}
    for report in reports:
        counts[report["status"]] = counts.get(report["status"], 0) + 1
        if common.json:
            print_json(report)
        else:
            remark(f"{report['name']}  {report['status']}  p={show(report['p_value']) or '-'}  {report['reason']}")
    remark("stopped: " + (", ".join(f"{n} {status}" for status, n in sorted(counts.items())) or "no frames"))
    return 0


def _change_batch(settings: Settings, **given: float) -> Settings:
    return settings.model_copy(update={"batch": settings.batch.model_copy(update=given)})


def _watch_spool(settings: Settings, spool: Path, request: IngestRequest, stopped: Event) -> Iterator[Report]:
    if not spool.is_dir():
        raise UsageError(f"{spool} is not a directory; create it or name another spool")
    batch = settings.batch
    rules = WatchRules(frames=batch.frames, seconds=batch.seconds, bulk_frames=batch.bulk_frames)
    with open_lake(settings) as lake, Ingestor(lake, request) as ingestor:
        remark(f"watching {spool}; stop with Ctrl-C")
        yield from watch_spool(ingestor, cast("Spool", lake.source), spool, rules, stopped.is_set)


def _watch_topic(
    settings: Settings, topic: str, request: IngestRequest, stopped: Event, *, once: bool
) -> Iterator[Report]:
    from pipeline.run.follow import follow  # noqa: PLC0415 - the client of Kafka loads slowly
    from pipeline.streams import open_consumer  # noqa: PLC0415

    remark(f"reading topic {topic}" + ("" if once else "; stop with Ctrl-C"))
    return follow(lambda: open_consumer(settings, topic, request, once=once), stopped.is_set, remark)


def _stop_on_signals(stopped: Event) -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        stopped.set()

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
