"""What happened to a frame -> rows of the tables. One function a table, columns as in `store/schema.py`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.embed.types import Spec
from pipeline.judge.prefilter import to_json
from pipeline.judge.types import Detection, Status
from pipeline.ports import RawFrame, VectorEntity
from pipeline.run.detect import Judged
from pipeline.run.lake import CODE_VERSION, JudgeRules
from pipeline.run.prepared import Prepared, Unreadable
from pipeline.run.references import ReferenceSet

CALIBRATION, ANYWHERE = "calibration", "anywhere"
"""What the `models` of a verdict say where references of other zones calibrated it."""


def frame_row(raw: RawFrame, prepared: Prepared, at: datetime) -> dict[str, Any]:
    """A row of `frames`."""
    row, pointing, quality = prepared.row, prepared.row.pointing, prepared.row.quality
    return {
        "frame_id": raw.frame_id,
        "name": raw.name,
        "obs_time": row.obs_time,
        "obs_time_source": row.obs_time_source,
        "night": row.night,
        "instrument": row.instrument,
        "telescope": row.telescope,
        "filter": row.filter,
        "exposure_s": row.exposure_s,
        "object": row.object,
        "image_type": row.image_type,
        "ra": pointing.ra,
        "dec": pointing.dec,
        "pointing_source": pointing.source,
        "radius_deg": pointing.radius,
        "zone": pointing.zone,
        "zones": list(pointing.zones),
        "width": row.width,
        "height": row.height,
        "hdu": row.hdu,
        "bitpix": row.bitpix,
        "background": quality.background,
        "noise": quality.noise,
        "fwhm_px": quality.fwhm_px,
        "stars": quality.stars,
        "valid_fraction": quality.valid_fraction,
        "saturated_fraction": quality.saturated_fraction,
        # What came with the message stands apart from what the frame says of itself.
        "header": [*row.header.items(), *((f"message.{name}", text) for name, text in raw.declared)],
        "notes": list(row.notes),
        "bytes": raw.size,
        "archive_uri": f"sha256:{raw.frame_id}",
        "source_partition": raw.position.partition,
        "source_offset": raw.position.offset,
        "ingested_at": at,
    }


def entity_of(frame_id: str, prepared: Prepared, embedding: Spec) -> VectorEntity:
    """The vector of a frame with the metadata a search filters on."""
    row = prepared.row
    return VectorEntity(
        frame_id=frame_id,
        vector=prepared.vectors[embedding.name],
        instrument=row.instrument,
        filter=row.filter,
        zone=row.pointing.zone,
        exposure_s=row.exposure_s,
        obs_time=row.obs_time,
        model=prepared.model if embedding.saturates else None,
    )


def entity_of_row(row: Mapping[str, Any], vector: NDArray[np.float32], model: str | None = None) -> VectorEntity:
    """The same of a row of `frames` and a vector that is known already."""
    return VectorEntity(
        frame_id=row["frame_id"],
        vector=vector,
        instrument=row["instrument"],
        filter=row["filter"],
        zone=row["zone"],
        exposure_s=row["exposure_s"],
        obs_time=row["obs_time"],
        model=model,
    )


def delivery_row(raw: RawFrame, outcome: str, purpose: str) -> dict[str, Any]:
    """A row of `deliveries`: outcome new, duplicate or quarantined; purpose ingest or reference."""
    return {
        "source_partition": raw.position.partition,
        "source_offset": raw.position.offset,
        "name": raw.name,
        "frame_id": raw.frame_id,
        "outcome": outcome,
        "purpose": purpose,
        "bytes": raw.size,
        "received_at": raw.received_at,
    }


def quarantine_row(
    raw: RawFrame, code: str, reason: str, *, event: str, at: datetime, kept: bool = True
) -> dict[str, Any]:
    """A row of `quarantine`; event is quarantined or redriven, `kept` whether its bytes are among the originals."""
    return {
        "frame_id": raw.frame_id,
        "name": raw.name,
        "code": code,
        "reason": reason,
        "event": event,
        "bytes": raw.size,
        "archive_uri": f"sha256:{raw.frame_id}" if kept else None,
        "source_partition": raw.position.partition,
        "source_offset": raw.position.offset,
        "at": at,
    }


def member_row(
    reference_set: str, frame_id: str, name: str, embedding: str, *, action: str, at: datetime, by: str, why: str
) -> dict[str, Any]:
    """A row of `reference_members`; embedding is the key of a spec, name and version; action is add or remove."""
    return {
        "reference_set": reference_set,
        "frame_id": frame_id,
        "name": name,
        "embedding": embedding,
        "action": action,
        "at": at,
        "by": by,
        "why": why,
    }


def verdict_row(
    raw: RawFrame, judged: Judged, references: ReferenceSet, rules: JudgeRules, at: datetime, *, advice: str = ""
) -> dict[str, Any]:
    """A row of `verdicts`, with everything a replay needs; `advice` ends the reason where references are missing."""
    row, judgement, p_value = judged.prepared.row, judged.judgement, judged.judgement.p_value
    prefilter = to_json(judged.prefilter) if judged.prefilter else None
    reason = judgement.reason + (advice if judgement.status is Status.NO_REFERENCE else "")
    return {
        **_verdict_core(raw, judgement.status, reason, at),
        "verdict_id": _verdict_id(
            raw.frame_id,
            judged.embedding.name,
            judged.embedding.version,
            rules,
            references.snapshot_id,
            prefilter,
            *([ANYWHERE] if judged.anywhere else []),
        ),
        "obs_time": row.obs_time,
        "night": row.night,
        "instrument": row.instrument,
        "filter": row.filter,
        "zone": row.pointing.zone,
        "distance": judgement.distance,
        "p_value": p_value.value if p_value else None,
        "extrapolated": p_value.extrapolated if p_value else None,
        "sigma": judgement.sigma,
        "threshold": judgement.threshold,
        "budget": rules.budget,
        "neighbours": [
            {"frame_id": n.frame_id, "name": references.names.get(n.frame_id), "distance": n.distance}
            for n in judgement.neighbours
        ],
        "embedding": judged.embedding.name,
        "embedding_version": judged.embedding.version,
        "reference_set": references.name,
        "reference_snapshot_id": references.snapshot_id,
        "references_in_cell": judgement.references_in_cell,
        "prefilter": prefilter,
        "models": [
            ("min_references", str(rules.min_references)),
            *([(judged.embedding.name, judged.prefilter.model)] if judged.prefilter and judged.prefilter.model else []),
            *([(CALIBRATION, ANYWHERE)] if judged.anywhere else []),
        ],
    }


def unreadable_row(raw: RawFrame, problem: Unreadable, rules: JudgeRules, at: datetime) -> dict[str, Any]:
    """A row of `verdicts` for bytes that are no frame: there is a verdict on everything that was delivered."""
    return {
        **_verdict_core(raw, Status.UNREADABLE, f"{problem.code}: {problem.reason}", at),
        "verdict_id": _verdict_id(raw.frame_id, "", problem.code, rules, None, problem.reason),
        "neighbours": [],
        "models": [],
    }


def detection_rows(
    verdict: dict[str, Any], detections: list[tuple[Detection, float | None, float | None]]
) -> list[dict[str, Any]]:
    """Rows of `detections`; each comes with its RA and Dec in degrees, None without a WCS."""
    return [
        {
            "verdict_id": verdict["verdict_id"],
            "frame_id": verdict["frame_id"],
            "x": detection.x,
            "y": detection.y,
            "ra": ra,
            "dec": dec,
            "sigma": detection.sigma,
            "kind": detection.kind,
            "size_px": detection.size_px,
            "angle_deg": detection.angle_deg,
            "judged_at": verdict["judged_at"],
        }
        for detection, ra, dec in detections
    ]


def _verdict_core(raw: RawFrame, status: Status, reason: str, at: datetime) -> dict[str, Any]:
    return {
        "frame_id": raw.frame_id,
        "name": raw.name,
        "judged_at": at,
        "status": str(status),
        "reason": reason,
        "code_version": CODE_VERSION,
        "source_partition": raw.position.partition,
        "source_offset": raw.position.offset,
    }


def renew_verdict_id(verdict_id: str, at: datetime) -> str:
    """Another id for the same judgement made once more, later."""
    return _verdict_id(verdict_id, at.isoformat())


def _verdict_id(*parts: object) -> str:
    texts = [_rules_text(part) if isinstance(part, JudgeRules) else str(part) for part in parts]
    return hashlib.sha256("\x00".join(texts).encode()).hexdigest()[:32]


def _rules_text(rules: JudgeRules) -> str:
    return f"{rules.budget} {rules.neighbours} {rules.min_references} {rules.reference_set}"
