"""Fill the reference repository, and let it audit itself."""

from __future__ import annotations

from prefect import State, flow, get_run_logger

from flows.artifacts import (
    summarise_promotions,
    summarise_reports,
    tabulate_audit,
    tabulate_lessons,
    tabulate_promotions,
    tell_audit,
    tell_lessons,
    tell_promotions,
)
from flows.forms import FileList, PromoteOptions, ReferenceOptions, embedding_name
from flows.publish import conclude, publish_reports, publish_story, track
from flows.tasks import audit_lake, ingest_batch, learn_fields, load_patient_settings, promote_normal
from pipeline.run.batch import IngestRequest, Purpose
from pipeline.run.report import Report
from pipeline.run.sweep import Sweep, plan_files
from pipeline.wiring import build_promotion, open_lake

_OPTIONS = ReferenceOptions()
_PROMOTE = PromoteOptions()


@flow(name="reference-add", flow_run_name="reference-add {source.label}")
def add_references(source: FileList, options: ReferenceOptions = _OPTIONS) -> State[None]:
    """Make frames references: what later frames are compared with.

    Args:
        source: Which frames.
        options: Under which embedding, who says so and why.
    """
    request = IngestRequest(
        Purpose.REFERENCE, embedding=embedding_name(options.embedding), by=options.by, why=options.why
    )
    reports: list[Report] = []
    with open_lake(load_patient_settings()) as lake, Sweep(lake, request) as sweep:
        batches = plan_files(source.paths, options.batch)
        for number, batch in track("reference", batches):
            reports += ingest_batch(sweep, batch, number, len(batches), len(batch))
        learn_fields(lake, get_run_logger().info)
    publish_reports("reference", f"References from {source.label}", reports)
    return conclude(summarise_reports(reports))


@flow(name="reference-learn")
def learn() -> State[None]:
    """Learn a model of every field whose references changed; old models stay, so old verdicts can be replayed."""
    with open_lake(load_patient_settings()) as lake:
        lessons = learn_fields(lake, get_run_logger().info)
    message = f"{sum(line['outcome'] == 'learnt' for line in lessons)} of {len(lessons)} fields learnt."
    publish_story("models", tell_lessons(lessons), tabulate_lessons(lessons), message)
    return conclude(message)


@flow(name="reference-promote")
def promote(options: PromoteOptions = _PROMOTE) -> State[None]:
    """Make normal frames references by rule; each is named here, and in the log of members with its reason.

    Args:
        options: What it takes, and whether anything is changed.
    """
    settings = load_patient_settings()
    rule = build_promotion(settings, days=options.days, most=options.most, p=options.p)
    with open_lake(settings) as lake:
        lines = promote_normal(lake, rule, dry_run=options.dry_run)
        if not options.dry_run:
            learn_fields(lake, get_run_logger().info)
    message = summarise_promotions(lines)
    publish_story("promotion", tell_promotions(lines), tabulate_promotions(lines), message)
    return conclude(message)


@flow(name="reference-audit")
def audit() -> State[None]:
    """Compare every reference with the others of its cell, worst first."""
    with open_lake(load_patient_settings()) as lake:
        lines = audit_lake(lake)
    message = f"{len(lines)} references compared."
    publish_story("audit", tell_audit(lines), tabulate_audit(lines), message)
    return conclude(message)
