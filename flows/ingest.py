"""Bring frames in, judge them, tell what was found."""

from __future__ import annotations

from pathlib import Path

from prefect import State, flow

from flows.artifacts import sort_reports, summarise_reports
from flows.forms import IngestOptions, Source, SpoolFolder, embedding_name
from flows.publish import conclude, publish_picture, publish_reports, track
from flows.tasks import check_lake, draw_oddest, ingest_batch
from pipeline.run.batch import IngestRequest
from pipeline.run.report import Report
from pipeline.run.sweep import Sweep, plan_files, plan_spool
from pipeline.settings import load_settings
from pipeline.wiring import open_lake

_OPTIONS = IngestOptions()


@flow(name="ingest", flow_run_name="ingest {source.label}")
def ingest(source: Source, options: IngestOptions = _OPTIONS) -> State[None]:
    """Bring frames in, compare each with its references and say what it is.

    Args:
        source: Which frames: what is new in a spool folder, or files named one by one.
        options: How they are judged, and what is done afterwards.
    """
    spool = isinstance(source, SpoolFolder)
    request = IngestRequest(
        embedding=embedding_name(options.embedding), record_duplicates=spool, judge_again=options.again
    )
    reports: list[Report] = []
    with open_lake(load_settings()) as lake:
        if isinstance(source, SpoolFolder):
            batches = plan_spool(lake, Path(source.spool), options.batch)
        else:
            batches = plan_files(source.paths, options.batch)
        if not batches:
            return conclude("Nothing new.")
        with Sweep(lake, request, spool=spool) as sweep:
            for number, batch in track("ingest", batches):
                reports += ingest_batch(sweep, batch, number, len(batches), len(batch))
        checks = [check.to_json() for check in check_lake(lake)] if options.verify else None
        publish_reports("ingest", f"Ingest of {source.label}", reports, checks)
        flagged = [report for report in sort_reports(reports) if report["status"] == "anomaly"]
        if flagged and options.picture:
            oddest = flagged[0]
            publish_picture(oddest["name"], draw_oddest(lake, oddest["frame_id"], oddest["name"]))
    return conclude(summarise_reports(reports), checks)
