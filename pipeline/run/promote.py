"""Normal frames become references by rule, and the log says by which: never without a word.

Never one that any verdict called an anomaly, and never one that was a reference before: a person took it out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.judge.promotion import Candidate, Place, Promotion, PromotionRule, choose_promotions, measure_age
from pipeline.judge.types import Status
from pipeline.run.lake import Lake, name_in_log, spec_of
from pipeline.run.references import load_references
from pipeline.run.rows import entity_of_row, member_row
from pipeline.run.stored import find_standing

Row = Mapping[str, Any]

BY = "promotion rule"
"""Who put them in, in the log of members."""

_OF_FRAMES = ("frame_id", "name", "instrument", "filter", "zone", "exposure_s", "obs_time")
_OF_VERDICTS = ("verdict_id", "frame_id", "embedding", "judged_at", "status", "p_value", "reference_set")


def promote_frames(lake: Lake, rule: PromotionRule, *, dry_run: bool = False) -> list[dict[str, Any]]:
    """Make those frames references that the rule names; models are learnt by `learn_models`, afterwards.

    Args:
        lake: open for writing.
        rule: what it takes.
        dry_run: say what would join, and change nothing.

    Returns:
        One line a frame: those that joined, or would, and those that would but for their missing vector.
    """
    now, spec = lake.clock(), spec_of(lake.embeddings[0])
    candidates = find_candidates(lake)
    held = list_places(lake)
    vectors: dict[str, NDArray[np.float32]] = {}
    lost: dict[str, Promotion] = {}
    while True:
        rest = [one for one in candidates if one.frame_id not in lost]
        chosen = choose_promotions(rest, held, rule, factor=lake.rules.search.exposure_factor, now=now)
        wanted = [p.candidate.frame_id for p in chosen if p.candidate.frame_id not in vectors]
        vectors |= lake.vectors.fetch(spec, wanted)
        missing = {p.candidate.frame_id: p for p in chosen if p.candidate.frame_id not in vectors}
        if not missing:
            break
        # Their places are free for the next ones.
        lost |= missing
    if not dry_run:
        _enter(lake, chosen, vectors, rule, now)
    action = "would be added" if dry_run else "added"
    advice = f"it has no vector under {spec.key} in the vector store: `oddframe reference add` its file"
    return [
        *(_line(one, action, explain_promotion(one, rule, now)) for one in chosen),
        *(_line(one, "left out", advice) for one in lost.values()),
    ]


def find_candidates(lake: Lake) -> list[Candidate]:
    """Frames of a known time whose newest verdicts are all normal, that nothing speaks against."""
    ours = lake.rules.reference_set
    spoken = lake.tables.scan("verdicts", _OF_VERDICTS).to_pylist()
    barred = {row["frame_id"] for row in spoken if row["status"] == Status.ANOMALY}
    members = lake.tables.scan("reference_members", ["frame_id"], where={"reference_set": [ours]})
    barred |= set(members.column("frame_id").to_pylist())
    newest: dict[str, list[Row]] = {}
    for row in find_standing(spoken):
        newest.setdefault(row["frame_id"], []).append(row)
    # The one of them that is least sure speaks for all.
    least = {
        frame_id: min(rows, key=lambda row: (row["p_value"], row["verdict_id"]))
        for frame_id, rows in newest.items()
        if frame_id not in barred and all(_is_normal(row, ours) for row in rows)
    }
    return [
        Candidate(
            row["frame_id"],
            row["name"],
            _place_of(row),
            row["obs_time"],
            least[row["frame_id"]]["p_value"],
            least[row["frame_id"]]["verdict_id"],
        )
        for row in _read_frames(lake, sorted(least))
        if row["obs_time"] is not None
    ]


def list_places(lake: Lake) -> list[Place]:
    """Of the references there are, under whatever embedding, each once."""
    ids = sorted({member.frame_id for member in load_references(lake).members})
    return [_place_of(row) for row in _read_frames(lake, ids)]


def explain_promotion(promotion: Promotion, rule: PromotionRule, now: datetime) -> str:
    """Why it joins, for the log of members."""
    one = promotion.candidate
    return (
        f"normal with p = {one.p_value:.3g} (at least {rule.least_p:g}) in verdict {one.verdict_id}; "
        f"observed {measure_age(one.obs_time, now):.1f} days before (cool-down {rule.days:g}); "
        f"reference {promotion.in_cell + 1} of at most {rule.most} in its cell"
    )


def _is_normal(row: Row, reference_set: str) -> bool:
    return row["status"] == Status.NORMAL and row["p_value"] is not None and row["reference_set"] == reference_set


def _enter(
    lake: Lake,
    chosen: Sequence[Promotion],
    vectors: Mapping[str, NDArray[np.float32]],
    rule: PromotionRule,
    now: datetime,
) -> None:
    """Vectors first, the log after: without a word in the log they are no references, and the next run enters them."""
    if not chosen:
        return
    spec = spec_of(lake.embeddings[0])
    rows = _read_frames(lake, sorted(one.candidate.frame_id for one in chosen))
    lake.vectors.put_references(spec, [entity_of_row(row, vectors[row["frame_id"]]) for row in rows])
    lake.vectors.flush()
    at = lake.clock()
    lake.tables.append(
        "reference_members",
        [
            member_row(
                lake.rules.reference_set,
                one.candidate.frame_id,
                one.candidate.name,
                name_in_log(embedding),
                action="add",
                at=at,
                by=BY,
                why=explain_promotion(one, rule, now),
            )
            for embedding in (lake.embeddings[0], *([lake.residual] if lake.residual is not None else []))
            for one in chosen
        ],
    )


def _read_frames(lake: Lake, ids: Sequence[str]) -> Iterable[Row]:
    rows: list[Row] = lake.tables.scan("frames", _OF_FRAMES, where={"frame_id": ids}).to_pylist() if ids else []
    return rows


def _place_of(row: Row) -> Place:
    return Place(row["instrument"], row["filter"], row["zone"], row["exposure_s"])


def _line(promotion: Promotion, action: str, reason: str) -> dict[str, Any]:
    one = promotion.candidate
    return {
        "name": one.name,
        "frame_id": one.frame_id,
        "action": action,
        "p_value": one.p_value,
        "verdict_id": one.verdict_id,
        "instrument": one.place.instrument,
        "filter": one.place.filter_band,
        "exposure_s": one.place.exposure_s,
        "zone": one.place.zone,
        "obs_time": one.obs_time,
        "reason": reason,
    }
