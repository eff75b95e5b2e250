"""The picture that explains a verdict, drawn from the bytes that were kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.errors import UnreadableFrameError
from pipeline.frame.fits import decode
from pipeline.frame.types import DecodeLimits
from pipeline.picture.compare import Plate
from pipeline.picture.explain import ExplanationPanels, draw_explanation
from pipeline.picture.panel import Mark
from pipeline.ports import OriginalStore, TableStore
from pipeline.run.unveil import unveil

Row = Mapping[str, Any]


def explain_picture(
    originals: OriginalStore,
    tables: TableStore,
    verdict: Row,
    detections: Sequence[Row],
    *,
    limits: DecodeLimits | None = None,
    models: OriginalStore | None = None,
) -> bytes:
    """Draw a judged frame beside its nearest reference and what is left of it.

    That is the difference of the two, or what the model of its field left where the verdict took one. The frames are
    decoded in this process: a worker has read them once already. What cannot be shown (no neighbour, bytes gone or
    unreadable) is said in the picture instead.

    Args:
        originals: where the bytes are kept.
        tables: where it is looked up when and how the frames were taken.
        verdict: a row of `verdicts`.
        detections: rows of `detections` that belong to it.
        limits: what a frame may cost; None takes the defaults.
        models: where the models of fields are kept, if any are.

    Returns:
        A PNG.
    """
    limits = limits or DecodeLimits()
    # A reference finds itself first, and would be no different from itself.
    others = [n for n in verdict["neighbours"] or () if n["frame_id"] != verdict["frame_id"]]
    nearest = next(iter(others), None)
    wanted = [verdict["frame_id"]] + ([nearest["frame_id"]] if nearest else [])
    taken = _describe_exposures(tables, wanted)
    frame, without = _load(originals, verdict["frame_id"], verdict["name"], taken, limits)
    reference: Plate | None = None
    if nearest and frame is not None:
        name = nearest["name"] or nearest["frame_id"][:12]
        reference, without = _load(originals, nearest["frame_id"], name, taken, limits)
    elif frame is not None:
        without = "No reference to compare it with."
    bare = unveil(originals, models, tables, verdict, limits) if models is not None and reference is not None else None
    significance: Plate | None = None
    if bare is not None and reference is not None:
        significance = Plate(bare.significance, np.isfinite(bare.significance), "")
        if bare.reference is not None:
            reference = replace(reference, pixels=bare.reference, valid=np.isfinite(bare.reference))
    strongest = sorted(detections, key=lambda d: -abs(d["sigma"] or 0.0))
    return draw_explanation(
        ExplanationPanels(
            name=verdict["name"] or verdict["frame_id"][:12],
            status=verdict["status"],
            reason=verdict["reason"] or "",
            p_value=verdict["p_value"],
            sigma=verdict["sigma"],
            frame=frame,
            reference=reference,
            marks=tuple(
                Mark(d["x"], d["y"], d["sigma"], d["kind"] or "", d["size_px"], d["angle_deg"]) for d in strongest
            ),
            significance=significance,
            without=without,
        )
    )


def _load(
    originals: OriginalStore, frame_id: str, name: str, taken: Mapping[str, str], limits: DecodeLimits
) -> tuple[Plate | None, str]:
    """The pixels, or a sentence that says why there are none."""
    place = originals.locate(frame_id)
    if place is None:
        return None, f"The bytes of {name} are not kept any more."
    try:
        frame = decode(place.read_bytes(), name=name, limits=limits, frame_id=frame_id)
    except OSError as error:
        return None, f"The bytes of {name} cannot be read: {error.strerror}."
    except UnreadableFrameError as error:
        return None, f"{name} cannot be shown. {error.reason}"
    return Plate(frame.pixels, frame.valid, name, taken.get(frame_id, "")), ""


def _describe_exposures(tables: TableStore, frame_ids: Sequence[str]) -> dict[str, str]:
    columns = ["frame_id", "obs_time", "instrument", "filter", "exposure_s"]
    rows = tables.scan("frames", columns, where={"frame_id": sorted(set(frame_ids))}).to_pylist()
    return {row["frame_id"]: _describe_exposure(row) for row in rows}


def _describe_exposure(row: Row) -> str:
    said = [
        f"{row['obs_time']:%Y-%m-%d %H:%M:%S} UTC" if row["obs_time"] else "",
        row["instrument"] or "",
        f"filter {row['filter']}" if row["filter"] else "",
        f"{row['exposure_s']:g} s" if row["exposure_s"] is not None else "",
    ]
    return ", ".join(part for part in said if part)
