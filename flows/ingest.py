"""Bring frames in, judge them, tell what was found."""

from __future__ import annotations

from pathlib import Path

from prefect import State, flow

from flows.artifacts import sort_reports, summarise_reports
from flows.forms import FileList, IngestOptions, Source, SpoolFolder, TopicMessages, embedding_name
from flows.publish import conclude, publish_picture, publish_reports, track, track_count
from flows.tasks import check_lake, draw_oddest, ingest_batch, load_patient_settings, read_topic
from pipeline.run.batch import IngestRequest
from pipeline.run.lake import Lake
from pipeline.run.report import Report
from pipeline.run.sweep import Sweep, plan_files, plan_spool
from pipeline.settings import Settings
from pipeline.wiring import open_lake

_OPTIONS = IngestOptions()


@flow(name="ingest", flow_run_name="ingest {source.label}")
def ingest(source: Source, options: IngestOptions = _OPTIONS) -> State[None]:
    """Bring frames in, compare each with its references and say what it is.

    Args:
        source: Which frames: what is new in a spool folder or a Kafka topic, or files named one by one.
        options: How they are judged, and what is done afterwards.
    """
    settings = load_patient_settings()
    request = IngestRequest(
        embedding=embedding_name(options.embedding),
        # What is brought in file by file is answered, no more; a spool and a topic are logs.
        record_duplicates=not isinstance(source, FileList),
        judge_again=options.again,
    )
    if isinstance(source, TopicMessages):
        reports = _read(settings, source.topic, request, options)
        with open_lake(settings) as lake:
            return _finish(lake, source.label, reports, options)
    spool = isinstance(source, SpoolFolder)
    reports = []
    with open_lake(settings) as lake:
        if isinstance(source, SpoolFolder):
            batches = plan_spool(lake, Path(source.spool), options.batch)
        else:
            batches = plan_files(source.paths, options.batch)
        if not batches:
            return conclude("Nothing new.")
        with Sweep(lake, request, spool=spool) as sweep:
            for number, batch in track("ingest", batches):
                reports += ingest_batch(sweep, batch, number, len(batches), len(batch))
        return _finish(lake, source.label, reports, options)


def _read(settings: Settings, topic: str, request: IngestRequest, options: IngestOptions) -> list[Report]:
    batch = settings.batch.model_copy(update={"bulk_frames": options.batch})
    tell = track_count("ingest", options.batch)
    return read_topic(settings.model_copy(update={"batch": batch}), topic, request, tell)


def _finish(lake: Lake, label: str, reports: list[Report], options: IngestOptions) -> State[None]:
    """Prove, tell, draw."""
    checks = [check.to_json() for check in check_lake(lake)] if options.verify else None
    publish_reports("ingest", f"Ingest of {label}", reports, checks)
    flagged = [report for report in sort_reports(reports) if report["status"] == "anomaly"]
    if flagged and options.picture:
        oddest = flagged[0]
        publish_picture(oddest["name"], draw_oddest(lake, oddest["frame_id"], oddest["name"]))
    return conclude(summarise_reports(reports), checks)
