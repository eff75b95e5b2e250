"""Ids of judgements made once more: the same id for the same word, another one for a word that was overruled since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.ports import TableStore
from pipeline.run.rows import renew_verdict_id

Row = dict[str, Any]


def name_anew(tables: TableStore, verdicts: Sequence[Row], detections: Sequence[Row], doubtful: Sequence[str]) -> None:
    """Give a verdict that was given before, and overruled since, an id of its own: it is the newest again.

    Args:
        tables: what was said before.
        verdicts: rows about to be written; their ids are changed in place.
        detections: rows that belong to them.
        doubtful: frame ids that may have verdicts already.
    """
    if not doubtful:
        return
    columns = ["verdict_id", "frame_id", "embedding", "judged_at"]
    stored = tables.scan("verdicts", columns, where={"frame_id": sorted(set(doubtful))}).to_pylist()
    stored.sort(key=lambda row: row["judged_at"])
    given = {row["verdict_id"] for row in stored}
    renamed: dict[str, str] = {}
    for verdict in verdicts:
        old = verdict["verdict_id"]
        if old in given:
            renamed[old] = verdict["verdict_id"] = _choose_id(verdict, _find_newest(stored, verdict))
    for detection in detections:
        detection["verdict_id"] = renamed.get(detection["verdict_id"], detection["verdict_id"])


def _choose_id(verdict: Row, newest: Row | None) -> str:
    """The id of the newest verdict if that says the same, else one of its own."""
    own: str = verdict["verdict_id"]
    if newest is not None:
        standing: str = newest["verdict_id"]
        if standing in (own, renew_verdict_id(own, newest["judged_at"])):
            return standing
    return renew_verdict_id(own, verdict["judged_at"])


def _find_newest(stored: Sequence[Row], verdict: Row) -> Row | None:
    """The last verdict under the same embedding; `unreadable` has none and stands beside every one."""
    frame_id, embedding = verdict["frame_id"], verdict.get("embedding")
    rivals = [row for row in stored if row["frame_id"] == frame_id]
    same = [row for row in rivals if embedding is None or row["embedding"] in (embedding, None)]
    return same[-1] if same else None
