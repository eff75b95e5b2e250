"""The reference repository: list it, take frames out, and let it audit itself. Adding is `ingest` with a purpose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.embed.types import Embedding
from pipeline.errors import UsageError
from pipeline.judge.calibration import calibrate
from pipeline.judge.prefilter import build_prefilter, describe_cell
from pipeline.ports import Prefilter
from pipeline.run.detect import Judge
from pipeline.run.lake import Lake, spec_of
from pipeline.run.references import Member, load_references
from pipeline.run.rows import member_row

_LEAST_TO_CALIBRATE = 3


def list_references(lake: Lake) -> list[dict[str, Any]]:
    """Members now, with what the search filters on, one line each."""
    members = load_references(lake).members
    rows = _frame_rows(lake, members)
    return [
        {
            "name": m.name,
            "frame_id": m.frame_id,
            "embedding": m.embedding,
            **{
                key: rows.get(m.frame_id, {}).get(key)
                for key in ("instrument", "filter", "exposure_s", "zone", "obs_time")
            },
        }
        for m in members
    ]


def remove_references(lake: Lake, wanted: Sequence[str], *, by: str, why: str) -> list[dict[str, Any]]:
    """Take frames out by name, id or the beginning of an id; the frames and their vectors stay.

    Raises:
        UsageError: one of them is not a reference; nothing is removed then.
    """
    members = load_references(lake).members
    chosen: list[Member] = []
    for text in wanted:
        matches = [m for m in members if text == m.name or (len(text) >= 6 and m.frame_id.startswith(text))]  # noqa: PLR2004
        if not matches:
            raise UsageError(f"{text!r} is not a reference; `oddframe reference list` shows those there are")
        chosen += [m for m in matches if m not in chosen]
    now = lake.clock()
    # The log first: a vector without membership is an orphan that `verify --repair` removes.
    lake.tables.append(
        "reference_members",
        [
            member_row(
                lake.rules.reference_set, m.frame_id, m.name, m.embedding, action="remove", at=now, by=by, why=why
            )
            for m in chosen
        ],
    )
    for embedding in lake.embeddings:
        ids = [m.frame_id for m in chosen if m.embedding == embedding.name]
        if ids:
            lake.vectors.drop_references(spec_of(embedding), ids)
    return [{"name": m.name, "frame_id": m.frame_id, "embedding": m.embedding, "action": "removed"} for m in chosen]


def audit_references(lake: Lake) -> list[dict[str, Any]]:
    """Leave-one-out: every reference against the others of its cell, worst first.

    A reference's p-value comes from a calibration that leaves it out, so a bad one cannot vouch for itself.
    """
    members = load_references(lake).members
    rows = _frame_rows(lake, members)
    judge = Judge(lake.vectors, lake.rules)
    lines: list[dict[str, Any]] = []
    for embedding in lake.embeddings:
        cells: dict[Prefilter, list[Member]] = {}
        for member in members:
            if member.embedding == embedding.name and member.frame_id in rows:
                cells.setdefault(_prefilter_of(lake, rows[member.frame_id]), []).append(member)
        for prefilter, cell in cells.items():
            lines += _audit_cell(lake, judge, embedding, prefilter, cell)
    return sorted(lines, key=lambda line: (line["p_value"] is None, line["p_value"], -(line["distance"] or 0.0)))


def _audit_cell(
    lake: Lake, judge: Judge, embedding: Embedding, prefilter: Prefilter, cell: Sequence[Member]
) -> list[dict[str, Any]]:
    nearest = judge.leave_one_out(embedding, prefilter, [m.frame_id for m in cell])
    everyone = lake.vectors.members(spec_of(embedding), prefilter, len(cell) * 10 + 1000)
    others = nearest | judge.leave_one_out(embedding, prefilter, [i for i in everyone if i not in nearest])
    lines: list[dict[str, Any]] = []
    for member in cell:
        distances = [n.distance for i, n in others.items() if i != member.frame_id]
        own = nearest.get(member.frame_id)
        if own is None or len(distances) < _LEAST_TO_CALIBRATE:
            reason = f"too few references to compare with in its cell ({describe_cell(prefilter)})"
            lines.append(_line(member, None if own is None else own.distance, None, reason))
            continue
        calibration = calibrate(distances)
        p_value = calibration.rate(own.distance).value
        threshold = calibration.find_threshold(lake.rules.budget)
        odd = p_value <= lake.rules.budget
        reason = (
            f"{own.distance:.4g} from its nearest neighbour, where the others are {calibration.distances[0]:.4g} to "
            f"{calibration.distances[-1]:.4g}: {'odd, look at it' if odd else 'in line'} (flag at {threshold:.4g})"
        )
        lines.append(_line(member, own.distance, p_value, reason))
    return lines


def _line(member: Member, distance: float | None, p_value: float | None, reason: str) -> dict[str, Any]:
    return {
        "name": member.name,
        "frame_id": member.frame_id,
        "distance": distance,
        "p_value": p_value,
        "reason": reason,
        "embedding": member.embedding,
    }


def _prefilter_of(lake: Lake, row: dict[str, Any]) -> Prefilter:
    return build_prefilter(
        instrument=row["instrument"],
        filter_band=row["filter"],
        zones=tuple(row["zones"] or ()),
        exposure_s=row["exposure_s"],
        rules=lake.rules.search,
    )


def _frame_rows(lake: Lake, members: Sequence[Member]) -> dict[str, dict[str, Any]]:
    if not members:
        return {}
    columns = ["frame_id", "instrument", "filter", "exposure_s", "zone", "zones", "obs_time"]
    wanted = {"frame_id": sorted({m.frame_id for m in members})}
    return {row["frame_id"]: row for row in lake.tables.scan("frames", columns, where=wanted).to_pylist()}
