"""Answers from the lake: what was said earlier of a frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from pipeline.errors import UsageError
from pipeline.judge.types import Status
from pipeline.ports import TableStore
from pipeline.run.report import Report, report_of

Row = dict[str, Any]
Bound = Callable[[Sequence[float]], float]


def load_verdicts(tables: TableStore, frame_ids: Sequence[str], embedding: str | None = None) -> dict[str, Row]:
    """The newest verdict of each frame, under one embedding if named; a verdict of `unreadable` has none."""
    if not frame_ids:
        return {}
    newest: dict[str, Row] = {}
    rows = tables.scan("verdicts", where={"frame_id": sorted(set(frame_ids))}).to_pylist()
    for row in sorted(rows, key=lambda r: (r["judged_at"], r["verdict_id"])):
        if embedding is None or row["embedding"] in (embedding, None):
            newest[row["frame_id"]] = row
    return newest


def load_detections(tables: TableStore, verdict_ids: Sequence[str]) -> dict[str, list[Row]]:
    """Detections by verdict id, strongest first."""
    found: dict[str, list[Row]] = {}
    if verdict_ids:
        rows = tables.scan("detections", where={"verdict_id": sorted(set(verdict_ids))}).to_pylist()
        for row in sorted(rows, key=lambda r: -abs(r["sigma"] or 0.0)):
            found.setdefault(row["verdict_id"], []).append(row)
    return found


def load_reports(tables: TableStore, frame_ids: Sequence[str], embedding: str | None = None) -> dict[str, Report]:
    """What `--json` prints for frames judged earlier, by frame id."""
    verdicts = load_verdicts(tables, frame_ids, embedding)
    flagged = [v["verdict_id"] for v in verdicts.values() if v["status"] == "anomaly"]
    detections = load_detections(tables, flagged)
    return {i: report_of(v["name"], v, detections.get(v["verdict_id"], [])) for i, v in verdicts.items()}


def list_verdicts(
    tables: TableStore,
    *,
    status: str | None = None,
    night: str | None = None,
    limit: int | None = 50,
    bound: Bound | None = None,
) -> list[Report]:
    """The newest verdict of each frame and embedding, oddest first.

    Args:
        tables: where they are.
        status: only this one.
        night: only this one, as YYYY-MM-DD.
        limit: at most this many; None for no limit.
        bound: given the p-values of all frames, one each, says what the largest is to be listed. The newest verdict of
            a frame counts then, whatever its embedding.

    Raises:
        UsageError: the status, the night or the limit cannot be understood.
    """
    where: dict[str, list[Any]] = {}
    if limit is not None and limit < 0:
        raise UsageError(f"a limit of {limit} makes no sense; give a number from 0")
    if status is not None and status not in set(Status):
        raise UsageError(f"{status!r} is no status; choose one of {', '.join(Status)}")
    if night is not None:
        try:
            where["night"] = [date.fromisoformat(night)]
        except ValueError as error:
            raise UsageError(f"{night!r} is no night; write it as YYYY-MM-DD") from error
    standing = find_standing(tables.scan("verdicts", where=where).to_pylist())
    if bound is not None:
        standing = _choose_odd(standing, bound)
    # Only now: an older verdict of this status may have been overruled.
    chosen = [row for row in standing if status in (None, row["status"])]
    rows = sorted(chosen, key=lambda r: (r["p_value"] is None, r["p_value"], r["name"]))[:limit]
    detections = load_detections(tables, [r["verdict_id"] for r in rows if r["status"] == "anomaly"])
    return [report_of(r["name"], r, detections.get(r["verdict_id"], [])) for r in rows]


def find_standing(rows: Sequence[Row]) -> list[Row]:
    """Of these verdicts the newest of each frame and embedding; `unreadable`, which has none, is overruled by any."""
    newest: dict[tuple[str, str], Row] = {}
    for row in sorted(rows, key=lambda r: r["judged_at"]):
        newest[row["frame_id"], row["embedding"] or ""] = row
    judged = {frame_id: row["judged_at"] for (frame_id, embedding), row in newest.items() if embedding}
    return [
        row
        for (frame_id, embedding), row in newest.items()
        if embedding or judged.get(frame_id, row["judged_at"]) <= row["judged_at"]
    ]


def _choose_odd(rows: Sequence[Row], bound: Bound) -> list[Row]:
    """Of each frame the newest, where its p-value is at most the bound of them all."""
    last: dict[str, Row] = {}
    for row in sorted(rows, key=lambda r: (r["judged_at"], r["verdict_id"])):
        last[row["frame_id"]] = row
    asked = [row for row in last.values() if row["p_value"] is not None]
    limit = bound([row["p_value"] for row in asked])
    return [row for row in asked if row["p_value"] <= limit]
