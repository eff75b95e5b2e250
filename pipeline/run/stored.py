"""Answers from the lake: what was said earlier of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.run.lake import Lake
from pipeline.run.report import Report, report_of

Row = dict[str, Any]


def load_verdicts(lake: Lake, frame_ids: Sequence[str], embedding: str | None = None) -> dict[str, Row]:
    """The newest verdict of each frame, under one embedding if named; a verdict of `unreadable` has none."""
    if not frame_ids:
        return {}
    newest: dict[str, Row] = {}
    rows = lake.tables.scan("verdicts", where={"frame_id": sorted(set(frame_ids))}).to_pylist()
    for row in sorted(rows, key=lambda r: (r["judged_at"], r["verdict_id"])):
        if embedding is None or row["embedding"] in (embedding, None):
            newest[row["frame_id"]] = row
    return newest


def load_detections(lake: Lake, verdict_ids: Sequence[str]) -> dict[str, list[Row]]:
    """Detections by verdict id, strongest first."""
    found: dict[str, list[Row]] = {}
    if verdict_ids:
        rows = lake.tables.scan("detections", where={"verdict_id": sorted(set(verdict_ids))}).to_pylist()
        for row in sorted(rows, key=lambda r: -(r["sigma"] or 0.0)):
            found.setdefault(row["verdict_id"], []).append(row)
    return found


def load_reports(lake: Lake, frame_ids: Sequence[str], embedding: str | None = None) -> dict[str, Report]:
    """What `--json` prints for frames judged earlier, by frame id."""
    verdicts = load_verdicts(lake, frame_ids, embedding)
    flagged = [v["verdict_id"] for v in verdicts.values() if v["status"] == "anomaly"]
    detections = load_detections(lake, flagged)
    return {i: report_of(v["name"], v, detections.get(v["verdict_id"], [])) for i, v in verdicts.items()}
