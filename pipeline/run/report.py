"""What is said of one file: one line of JSON, the same from `ingest`, `reference add` and `verdicts`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Report = dict[str, Any]

_OF_DETECTIONS = ("x", "y", "ra", "dec", "sigma", "kind", "size_px", "angle_deg")


def report_of(name: str, verdict: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]) -> Report:
    """A row of `verdicts` and its detections as the line that `--json` prints."""
    embedding = verdict.get("embedding")
    return {
        "name": name,
        "frame_id": verdict["frame_id"],
        "status": verdict["status"],
        "distance": verdict.get("distance"),
        "p_value": verdict.get("p_value"),
        "sigma": verdict.get("sigma"),
        "embedding": f"{embedding}@{verdict.get('embedding_version')}" if embedding else None,
        "nearest": [
            {"frame_id": n["frame_id"], "name": n["name"], "distance": n["distance"]}
            for n in verdict.get("neighbours") or []
        ],
        "detections": [
            {k: d.get(k) for k in ("x", "y", "ra", "dec", "sigma", "kind", "size_px", "angle_deg")} for d in detections
        ],
        "reason": verdict.get("reason"),
    }


def reference_report(name: str, frame_id: str, embedding: str, reason: str) -> Report:
    """The line of a frame that is a reference and was not judged."""
    return {
        "name": name,
        "frame_id": frame_id,
        "status": "reference",
        "distance": None,
        "p_value": None,
        "sigma": None,
        "embedding": embedding,
        "nearest": [],
        "detections": [],
        "reason": reason,
    }


def report_not_landed(name: str, reason: str) -> Report:
    """The line of a file that could not be read: of its content nothing is known."""
    return {
        "name": name,
        "frame_id": None,
        "status": "unreadable",
        "distance": None,
        "p_value": None,
        "sigma": None,
        "embedding": None,
        "nearest": [],
        "detections": [],
        "reason": reason,
    }
