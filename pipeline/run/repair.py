"""Mend what `verify` found: finish what was left behind, drop what is doubled or stray, embed what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from pipeline.embed.types import Spec
from pipeline.ports import SourcePosition, VectorEntity
from pipeline.run.batch import IngestRequest, Purpose
from pipeline.run.ingest import Ingestor
from pipeline.run.lake import Lake, spec_of
from pipeline.run.models import load_index
from pipeline.run.prepared import Prepared
from pipeline.run.references import load_references
from pipeline.run.rows import delivery_row, entity_of
from pipeline.run.verify import Check, verify_lake

_KEYS = {
    "deliveries: one row a message": ("deliveries", ("source_partition", "source_offset")),
    "frames: one row a content": ("frames", ("frame_id",)),
    "verdicts: one row a judgement": ("verdicts", ("verdict_id",)),
}


def repair_lake(lake: Lake, checks: Sequence[Check]) -> list[Check]:
    """Repair every check that says how, then verify anew.

    Returns:
        The checks after repair: what is still wrong needs a person.
    """
    wrong = {check.name: check for check in checks if not check.agrees}
    # Before frames left behind are judged: without the references' vectors they would have none to be compared with.
    _repair_vectors(lake, wrong)
    if any(check.repair == "learn" for check in wrong.values()):
        # Loads what computes, which a lake that agrees does not need.
        from pipeline.run.learn import learn_models  # noqa: PLC0415

        for _ in learn_models(lake):
            pass
    if any(check.repair == "ingest" for check in wrong.values()):
        _restore_deliveries(lake)
        with Ingestor(lake, IngestRequest()) as ingestor:
            for _ in ingestor.ingest([]):
                pass
    for name, (table, keys) in _KEYS.items():
        if name in wrong:
            _drop_doubled(lake, table, keys)
    if (strays := wrong.get("detections: every one belongs to a verdict")) is not None:
        lake.tables.delete("detections", {"verdict_id": list(strays.differences)})
    return verify_lake(lake)


def _restore_deliveries(lake: Lake) -> None:
    """Write the rows of messages that were delivered, as the positions say, and whose row is gone."""
    held, columns = lake.tables.positions("deliveries"), ["source_partition", "source_offset"]
    there = {SourcePosition(*row.values()) for row in lake.tables.scan("deliveries", columns).to_pylist()}
    lost = [raw for raw in lake.source.messages() if held.holds(raw.position) and raw.position not in there]
    if not lost:
        return
    first: dict[SourcePosition, str] = {}
    for table, outcome in (("quarantine", "quarantined"), ("frames", "new")):
        for row in lake.tables.scan(table, columns, where={"frame_id": [raw.frame_id for raw in lost]}).to_pylist():
            first.setdefault(SourcePosition(*row.values()), outcome)
    members = {m.frame_id for m in load_references(lake).members}
    rows = [
        delivery_row(
            raw,
            first.get(raw.position, "duplicate"),
            str(Purpose.REFERENCE if raw.frame_id in members else Purpose.INGEST),
        )
        for raw in lost
    ]
    lake.tables.append("deliveries", rows, [raw.position for raw in lost])


def _drop_doubled(lake: Lake, table: str, keys: tuple[str, ...]) -> None:
    data: pa.Table = lake.tables.scan(table)
    seen: set[tuple[object, ...]] = set()
    keep: list[int] = []
    for i, row in enumerate(zip(*(data.column(key).to_pylist() for key in keys), strict=True)):
        if row not in seen:
            seen.add(row)
            keep.append(i)
    lake.tables.rewrite(table, {}, data.take(keep))


def _repair_vectors(lake: Lake, wrong: dict[str, Check]) -> None:
    for embedding in lake.specs:
        key = spec_of(embedding).key
        orphans = wrong.get(f"vectors {key}: none without a row")
        doubled = wrong.get(f"vectors {key}: none doubled")
        missing = wrong.get(f"vectors {key}: none missing")
        again = {*(missing.differences if missing else ()), *(doubled.differences if doubled else ())}
        if orphans:
            _remove_orphans(lake, embedding, orphans.differences)
        if again:
            _embed_again(lake, embedding, sorted(again))


def _remove_orphans(lake: Lake, embedding: Spec, frame_ids: Sequence[str]) -> None:
    known = set(lake.tables.scan("frames", ["frame_id"], where={"frame_id": frame_ids}).column("frame_id").to_pylist())
    spec = spec_of(embedding)
    lake.vectors.delete(spec, [i for i in frame_ids if i not in known])
    # A frame that is known but no longer a reference keeps its vector and loses its place among the references.
    lake.vectors.drop_references(spec, [i for i in frame_ids if i in known])


def _embed_again(lake: Lake, embedding: Spec, frame_ids: Sequence[str]) -> None:
    spec = spec_of(embedding)
    members = set(load_references(lake).ids(spec))
    entities = [e for i in frame_ids if (e := embed_original(lake, embedding, i)) is not None]
    lake.vectors.delete(spec, [e.frame_id for e in entities])
    lake.vectors.upsert(spec, entities)
    lake.vectors.put_references(spec, [e for e in entities if e.frame_id in members])
    lake.vectors.flush()


def embed_original(lake: Lake, embedding: Spec, frame_id: str) -> VectorEntity | None:
    """Compute a vector anew from the bytes that were kept; None where they are gone or give none."""
    prepared = prepare_original(lake, embedding, frame_id, load_index(lake).path if embedding.saturates else None)
    if prepared is None or embedding.name not in prepared.vectors:
        return None
    return entity_of(frame_id, prepared, embedding)


def prepare_original(lake: Lake, embedding: Spec, frame_id: str, index: Path | None = None) -> Prepared | None:
    """Decode, describe and embed the kept bytes of a frame that was read once already, in this process.

    Args:
        lake: where they are kept.
        embedding: what to compute.
        frame_id: of which frame.
        index: of the models to use, where the embedding takes one.
    """
    # Loads the decoder, which a run that repairs nothing does not need.
    from pipeline.run.prepare import prepare_frame  # noqa: PLC0415

    place = lake.originals.locate(frame_id)
    if place is None:
        return None
    plain = tuple(e for e in lake.embeddings if e == embedding)
    result = prepare_frame(place, frame_id, frame_id, replace(lake.plan, embeddings=plain, index=index))
    return result if isinstance(result, Prepared) else None
