"""Why a frame was judged as it was, and the proof that it would be judged so again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import StoreError, UsageError
from pipeline.judge.prefilter import from_json
from pipeline.ports import TableStore
from pipeline.run.detect import Judge, Judged
from pipeline.run.lake import Lake, spec_of
from pipeline.run.models import find_model_row, keep_index, to_model
from pipeline.run.references import SHORTEST_ID, fold_members, load_references
from pipeline.run.repair import prepare_original
from pipeline.run.replay import ReplayVectors
from pipeline.run.rows import ANYWHERE, CALIBRATION


@dataclass(frozen=True, slots=True)
class Replay:
    """A judgement made once more from the kept bytes and the reference set as it was.

    Attributes:
        same: whether status, distance, p-value and neighbours are equal bit for bit.
        differences: `field: stored -> replayed` for each that is not.
    """

    same: bool
    differences: tuple[str, ...]


def find_verdict(tables: TableStore, wanted: str, embedding: str | None = None) -> dict[str, Any]:
    """The newest verdict of a frame named by file name, id, or the beginning of an id.

    Raises:
        UsageError: no such frame, several, or one that was never judged.
    """
    verdicts = tables.scan("verdicts", ["frame_id", "name"]).to_pylist()
    ids = {v["frame_id"] for v in verdicts if v["name"] == wanted}
    if len(wanted) >= SHORTEST_ID:
        ids |= {v["frame_id"] for v in verdicts if v["frame_id"].startswith(wanted)}
    if not ids:
        raise UsageError(_explain_absence(tables, wanted))
    if len(ids) > 1:
        raise UsageError(f"{wanted!r} names {len(ids)} frames; give more of the id: {', '.join(sorted(ids)[:5])}")
    rows = tables.scan("verdicts", where={"frame_id": sorted(ids)}).to_pylist()
    rows = [r for r in rows if embedding is None or r["embedding"] == embedding]
    if not rows:
        raise UsageError(f"frame {wanted!r} has no verdict under the embedding {embedding!r}")
    newest: dict[str, Any] = max(rows, key=lambda r: (r["judged_at"], r["verdict_id"]))
    return newest


def _explain_absence(tables: TableStore, wanted: str) -> str:
    if any(m.is_named(wanted) for m in fold_members(tables.scan("reference_members").to_pylist())):
        return (
            f"{wanted!r} is a reference and was never judged; `oddframe reference audit` compares it with the others, "
            "`oddframe ingest` of its file judges it"
        )
    return f"no verdict on a frame {wanted!r}; `oddframe verdicts` lists those there are"


def replay_verdict(lake: Lake, verdict: dict[str, Any]) -> Replay:
    """Decode, embed, search and judge again, against the reference set at the verdict's snapshot.

    Raises:
        UsageError: the verdict was not the result of a search.
        StoreError: what it was made from is gone.
    """
    if verdict["prefilter"] is None:
        raise UsageError(f"the verdict is {verdict['status']}: nothing was searched, so there is no score to replay")
    embedding = lake.find(verdict["embedding"])
    if embedding.version != verdict["embedding_version"]:
        raise StoreError(
            f"the verdict was made with {verdict['embedding']}@{verdict['embedding_version']}, "
            f"this version computes {embedding.version}; set the shape back or install the version it names"
        )
    prefilter = from_json(verdict["prefilter"])
    model = to_model(find_model_row(lake.tables, prefilter.model)) if prefilter.model is not None else None
    index = keep_index(lake.models, [model]) if model is not None else None
    prepared = prepare_original(lake, embedding, verdict["frame_id"], index)
    if prepared is None:
        raise StoreError(f"the bytes of frame {verdict['frame_id']} are not kept any more")
    if embedding.name not in prepared.vectors:
        raise StoreError(f"frame {verdict['frame_id']} gives no {embedding.name} vector now: {prepared.remark}")
    rules = replace(
        lake.rules,
        reference_set=verdict["reference_set"],
        budget=verdict["budget"],
        min_references=int(dict(verdict["models"])["min_references"]),
        neighbours=max(1, len(verdict["neighbours"])),
    )
    snapshot = verdict["reference_snapshot_id"]
    spec = spec_of(embedding)
    members = load_references(replace(lake, rules=rules), as_of=snapshot).ids(spec) if snapshot else []
    vectors = ReplayVectors(lake, spec, members, model)
    anywhere = dict(verdict["models"]).get(CALIBRATION) == ANYWHERE
    judged = Judge(vectors, rules).judge_under(verdict["frame_id"], prepared, embedding, prefilter, anywhere=anywhere)
    return _compare(verdict, judged)


def _compare(verdict: dict[str, Any], judged: Judged) -> Replay:
    judgement = judged.judgement
    p_value = judgement.p_value.value if judgement.p_value else None
    pairs: list[tuple[str, Any, Any]] = [
        ("status", verdict["status"], str(judgement.status)),
        ("distance", verdict["distance"], judgement.distance),
        ("p_value", verdict["p_value"], p_value),
        ("threshold", verdict["threshold"], judgement.threshold),
        ("references_in_cell", verdict["references_in_cell"], judgement.references_in_cell),
        (
            "neighbours",
            [(n["frame_id"], n["distance"]) for n in verdict["neighbours"]],
            [(n.frame_id, n.distance) for n in judgement.neighbours],
        ),
    ]
    differences = tuple(f"{name}: {old!r} -> {new!r}" for name, old, new in pairs if old != new)
    return Replay(not differences, differences)
