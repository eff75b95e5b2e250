"""The reference repository: list it, take frames out, and let it audit itself. Adding is `ingest` with a purpose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.embed.types import Spec
from pipeline.errors import UsageError
from pipeline.judge.calibration import Calibration
from pipeline.judge.prefilter import build_prefilter, describe_cell
from pipeline.ports import Prefilter
from pipeline.run.detect import Judge
from pipeline.run.lake import Lake, name_in_log, spec_of
from pipeline.run.models import load_models
from pipeline.run.references import Member, load_references
from pipeline.run.replay import passes
from pipeline.run.rows import member_row

_LEAST_TO_CALIBRATE = 3


def list_references(lake: Lake) -> list[dict[str, Any]]:
    """Members now, with what the search filters on and the model learnt from each, one line each."""
    members = _list_plain(lake, load_references(lake).members)
    rows, models = _frame_rows(lake, members), _name_models(lake)
    return [
        {
            "name": m.name,
            "frame_id": m.frame_id,
            "embedding": m.embedding,
            "model": models.get(m.frame_id),
            **{
                key: rows.get(m.frame_id, {}).get(key)
                for key in ("instrument", "filter", "exposure_s", "zone", "obs_time")
            },
        }
        for m in members
    ]


def _list_plain(lake: Lake, members: Sequence[Member]) -> list[Member]:
    """Less those under the embedding that takes a model: each is there once more without."""
    return [m for m in members if lake.residual is None or m.spec.name != lake.residual.name]


def _name_models(lake: Lake) -> dict[str, str]:
    """The model in use that each reference was registered for, odd or not, by frame id."""
    if lake.residual is None:
        return {}
    held = load_models(lake.tables, lake.rules.reference_set, lake.residual.version)
    return {i: model.model for model in held.models for i in (*model.registered, *model.odd)}


def remove_references(lake: Lake, wanted: Sequence[str], *, by: str, why: str) -> list[dict[str, Any]]:
    """Take frames out by name, id or the beginning of an id; the frames and their vectors stay.

    Raises:
        UsageError: one of them is not a reference; nothing is removed then.
    """
    members = load_references(lake).members
    chosen: list[Member] = []
    for text in wanted:
        matches = [m for m in members if m.is_named(text)]
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
    for spec in {m.spec for m in chosen}:
        taking = lake.residual is not None and spec.name == lake.residual.name
        searched = spec_of(lake.residual) if lake.residual is not None and taking else spec
        lake.vectors.drop_references(searched, [m.frame_id for m in chosen if m.spec == spec])
    return [
        {"name": m.name, "frame_id": m.frame_id, "embedding": m.embedding, "action": "removed"}
        for m in _list_plain(lake, chosen)
    ]


def audit_references(lake: Lake) -> list[dict[str, Any]]:
    """Leave-one-out: every reference against the others of its cell, worst first.

    A reference's p-value comes from a calibration that leaves it out, so a bad one cannot vouch for itself.
    """
    references = load_references(lake)
    rows = _frame_rows(lake, references.members)
    lines: list[dict[str, Any]] = []
    models = _name_models(lake)
    for embedding in lake.specs:
        spec = spec_of(embedding)
        ours = [m for m in references.members if m.embedding == name_in_log(embedding) and m.frame_id in rows]
        # A reference of a model is compared by that model, as frames are.
        ours = [replace(m, embedding=spec.key) for m in ours if (m.frame_id in models) == embedding.saturates]
        judge = _make_judge(lake, {m.frame_id for m in ours})
        cells: dict[Prefilter, list[Member]] = {}
        for member in ours:
            model = models[member.frame_id] if embedding.saturates else None
            cells.setdefault(_prefilter_of(lake, rows[member.frame_id], model), []).append(member)
        for prefilter, cell in cells.items():
            lines += _audit_cell(lake, judge, embedding, prefilter, [(m, rows[m.frame_id]) for m in cell])
        reason = f"not searched: it is no reference under {spec.key}; `oddframe reference add` its file again"
        if not embedding.saturates:
            lines += [_line(m, None, None, f"under {m.embedding}, {reason}") for m in references.find_outdated(spec)]
    return sorted(lines, key=lambda line: (line["p_value"] is None, line["p_value"], -(line["distance"] or 0.0)))


def _make_judge(lake: Lake, members: set[str]) -> Judge:
    """A judge that also calibrates cells in which no frame is judged yet."""
    rules = replace(lake.rules, min_references=_LEAST_TO_CALIBRATE + 1)
    return Judge(lake.vectors, rules, lambda _, ids: [i for i in ids if i in members])


def _audit_cell(
    lake: Lake, judge: Judge, embedding: Spec, prefilter: Prefilter, cell: Sequence[tuple[Member, dict[str, Any]]]
) -> list[dict[str, Any]]:
    whole = judge.cell_of(embedding, prefilter)
    # An odd reference of a model is none that is searched, and compared all the same.
    searched = [member.frame_id for member, _ in cell if member.frame_id in whole.members or embedding.saturates]
    nearest = judge.leave_one_out(embedding, prefilter, searched)
    lines: list[dict[str, Any]] = []
    for member, row in cell:
        own = nearest[member.frame_id][0].distance if member.frame_id in nearest else None
        calibration = whole.leave_out(member.frame_id).calibration
        if not passes(prefilter, row):
            lines.append(_line(member, None, None, "outside the dates that are searched: no frame is compared with it"))
        elif member.frame_id not in whole.members and member.frame_id not in nearest:
            lines.append(_line(member, None, None, "its vector is missing: `oddframe verify --repair` puts it back"))
        elif own is None or calibration is None or calibration.references < _LEAST_TO_CALIBRATE:
            reason = f"too few references to compare with in its cell ({describe_cell(prefilter)})"
            lines.append(_line(member, own, None, reason))
        else:
            lines.append(_rate(member, own, calibration, lake.rules.budget))
    return lines


def _rate(member: Member, own: float, calibration: Calibration, budget: float) -> dict[str, Any]:
    p_value = calibration.rate(own).value
    reason = (
        f"{own:.4g} from its nearest neighbour, where the others are {calibration.distances[0]:.4g} to "
        f"{calibration.distances[-1]:.4g}: {'odd, look at it' if p_value <= budget else 'in line'} "
        f"(flag at {calibration.find_threshold(budget):.4g})"
    )
    return _line(member, own, p_value, reason)


def _line(member: Member, distance: float | None, p_value: float | None, reason: str) -> dict[str, Any]:
    return {
        "name": member.name,
        "frame_id": member.frame_id,
        "distance": distance,
        "p_value": p_value,
        "reason": reason,
        "embedding": member.embedding,
    }


def _prefilter_of(lake: Lake, row: dict[str, Any], model: str | None) -> Prefilter:
    return build_prefilter(
        instrument=row["instrument"],
        filter_band=row["filter"],
        zones=tuple(row["zones"] or ()),
        exposure_s=row["exposure_s"],
        rules=lake.rules.search,
        model=model,
    )


def _frame_rows(lake: Lake, members: Sequence[Member]) -> dict[str, dict[str, Any]]:
    if not members:
        return {}
    columns = ["frame_id", "instrument", "filter", "exposure_s", "zone", "zones", "obs_time"]
    wanted = {"frame_id": sorted({m.frame_id for m in members})}
    return {row["frame_id"]: row for row in lake.tables.scan("frames", columns, where=wanted).to_pylist()}
