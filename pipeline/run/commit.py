"""A decoded batch -> vectors, verdicts and commits, in the order that makes every crash harmless."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.embed.registry import find_embedding
from pipeline.embed.types import Embedding, Spec
from pipeline.judge.locate import locate_differences
from pipeline.judge.types import Detection, Status
from pipeline.ports import SourcePosition, VectorEntity
from pipeline.run.batch import Batch, IngestRequest, Item, Standing
from pipeline.run.deliver import deliver
from pipeline.run.detect import Judge, Judged
from pipeline.run.lake import KillSwitch, Lake, name_in_log, spec_of
from pipeline.run.overruled import name_anew
from pipeline.run.prepared import Prepared, Unreadable
from pipeline.run.references import ReferenceSet, load_references
from pipeline.run.report import Report, reference_report, report_of
from pipeline.run.rows import (
    detection_rows,
    entity_of,
    frame_row,
    member_row,
    quarantine_row,
    unreadable_row,
    verdict_row,
)

Row = dict[str, Any]


class Committer:
    """Indexes, judges and commits batches; knows which contents are between the two."""

    def __init__(self, lake: Lake, request: IngestRequest, judge: Judge, switch: KillSwitch) -> None:
        self._lake = lake
        self._request = request
        self._judge = judge
        self._switch = switch
        self.in_flight: set[str] = set()
        # Contents that another process entered while we were at them.
        self._beaten: set[str] = set()

    def commit_frames(self, batch: Batch, embeddings: Sequence[Spec], references: ReferenceSet) -> None:
        """Index, judge and commit; afterwards `batch.reports` answers for every frame that was worked on."""
        readable = self._index(batch, embeddings)
        self._switch.reach("judge")
        judged = self._judge.judge_batch(
            [(item.landed.frame_id, item.result) for item in readable if isinstance(item.result, Prepared)], embeddings
        )
        now = self._lake.clock()
        advice = {e.name: references.explain_absence(spec_of(e)) for e in embeddings}
        verdicts: list[Row] = []
        found: list[Row] = []
        for item, one in zip(readable, judged, strict=True):
            assert item.raw is not None  # noqa: S101 - working items are numbered
            remedy = advice[one.embedding.name]
            verdict = verdict_row(item.raw, one, references, self._lake.rules, now, advice=remedy)
            detections = detection_rows(verdict, self._locate(one))
            verdicts.append(verdict)
            found += detections
            batch.reports[item.landed.frame_id] = report_of(item.landed.path.name, verdict, detections)
        verdicts += self._report_unreadable(batch)
        self._append_frames(batch, readable)
        self._append_quarantine(batch)
        # Judged again against the same references, a frame gets the verdict it has.
        doubtful = _known_ids(batch)
        name_anew(self._lake.tables, verdicts, found, doubtful)
        self._append_missing("detections", found, batch, "verdict_id", doubtful)
        # One word on a frame is enough, unless another one is asked for.
        unique = ("verdict_id",) if self._request.judge_again else ("frame_id", "embedding")
        unsaid = self._append_missing("verdicts", verdicts, batch, "verdict_id", doubtful, unique=unique)
        self._drop_detections([row["verdict_id"] for row in unsaid])
        self._deliver(batch)

    def commit_references(
        self, batch: Batch, embedding: Embedding, references: ReferenceSet, *, learn: bool
    ) -> ReferenceSet:
        """Index the batch as references under one embedding, enter them in the log, and commit.

        Args:
            batch: decoded.
            embedding: that takes no model.
            references: the set as it was.
            learn: whether models are to be learnt from them too.

        Returns:
            The reference set with them in it.
        """
        readable = self._index(batch, [embedding])
        usable = [item for item in readable if isinstance(item.result, Prepared) and item.result.vectors]
        self._switch.reach("references")
        self._lake.vectors.put_references(spec_of(embedding), [_entity(item, embedding) for item in usable])
        self._judge.forget()
        self._append_frames(batch, readable)
        verdicts = self._report_unreadable(batch) + self._refuse_unusable(readable, embedding, references)
        self._append_quarantine(batch)
        self._append_missing("verdicts", verdicts, batch, "frame_id", [v["frame_id"] for v in verdicts])
        models = [self._lake.residual] if learn and self._lake.residual is not None else []
        self._enter(usable, [embedding, *models])
        for item in readable:
            objection = item.result.objection if isinstance(item.result, Prepared) else None
            reason = objection or f"added to the reference set {references.name!r}"
            batch.reports[item.landed.frame_id] = reference_report(
                item.landed.path.name, item.landed.frame_id, spec_of(embedding).key, reason
            )
            if objection:
                batch.reports[item.landed.frame_id]["status"] = str(Status.NOT_SEARCHED)
        self._deliver(batch)
        return load_references(self._lake)

    def report_member(self, frame_id: str) -> Report:
        """The line of a frame that is a reference already."""
        chosen = self._request.embedding
        name = chosen if chosen in {e.name for e in self._lake.embeddings} else self._lake.embeddings[0].name
        return reference_report("", frame_id, spec_of(self._lake.find(name)).key, "it is a reference already")

    def _index(self, batch: Batch, embeddings: Sequence[Spec]) -> list[Item]:
        readable = [item for item in batch.working() if _is_prepared(item)]
        self._switch.reach("index")
        for embedding in embeddings:
            entities = [
                _entity(item, embedding)
                for item in readable
                if isinstance(item.result, Prepared) and embedding.name in item.result.vectors
            ]
            if entities:
                self._lake.vectors.upsert(spec_of(embedding), entities)
        return readable

    def _refuse_unusable(self, readable: Sequence[Item], embedding: Embedding, references: ReferenceSet) -> list[Row]:
        """Verdicts of frames that no vector can be made of: as references they would have no word said of them."""
        unusable = [
            (item.raw, item.result)
            for item in readable
            if item.raw is not None and isinstance(item.result, Prepared) and not item.result.vectors
        ]
        judged = self._judge.judge_batch([(raw.frame_id, prepared) for raw, prepared in unusable], [embedding])
        now = self._lake.clock()
        return [
            verdict_row(raw, one, references, self._lake.rules, now)
            for (raw, _), one in zip(unusable, judged, strict=True)
        ]

    def _append_frames(self, batch: Batch, readable: Sequence[Item]) -> None:
        now = self._lake.clock()
        rows = [
            frame_row(item.raw, item.result, now)
            for item in readable
            if item.raw is not None and isinstance(item.result, Prepared)
        ]
        dropped = self._append_missing("frames", rows, batch, "frame_id", _known_ids(batch))
        self._beaten.update(row["frame_id"] for row in dropped)

    def _append_quarantine(self, batch: Batch) -> None:
        now = self._lake.clock()
        items = [(item, item.raw) for item in batch.working() if item.raw is not None]
        formerly = [item.landed.formerly for item, _ in items if item.landed.formerly]
        open_now = self._open_quarantine([*_known_ids(batch), *formerly])
        rows: list[Row] = []
        for item, raw in items:
            frame_id, result = item.landed.frame_id, item.result
            if isinstance(result, Unreadable) and frame_id not in open_now:
                kept = self._lake.originals.locate(frame_id) is not None
                rows.append(quarantine_row(raw, result.code, result.reason, event="quarantined", at=now, kept=kept))
            elif isinstance(result, Prepared):
                reason = "decoded on a further attempt"
                # A message that holds its frame now was in quarantine under its own content.
                for freed in dict.fromkeys(i for i in (frame_id, item.landed.formerly) if i in open_now):
                    row = quarantine_row(raw, open_now[freed], reason, event="redriven", at=now)
                    rows.append({**row, "frame_id": freed})
        # The same content may come into quarantine twice, the same message may not.
        self._append("quarantine", rows, batch, ("frame_id", "event", "source_partition", "source_offset"))

    def _open_quarantine(self, frame_ids: Sequence[str]) -> dict[str, str]:
        """Frame id to the code it is in quarantine for."""
        if not frame_ids:
            return {}
        columns = ["frame_id", "code", "event", "at"]
        rows = self._lake.tables.scan("quarantine", columns, where={"frame_id": frame_ids}).to_pylist()
        latest = {row["frame_id"]: row for row in sorted(rows, key=lambda row: row["at"])}
        return {frame_id: row["code"] for frame_id, row in latest.items() if row["event"] == "quarantined"}

    def _report_unreadable(self, batch: Batch) -> list[Row]:
        now = self._lake.clock()
        rows: list[Row] = []
        for item in batch.working():
            if isinstance(item.result, Unreadable) and item.raw is not None:
                row = unreadable_row(item.raw, item.result, self._lake.rules, now)
                batch.reports[item.landed.frame_id] = report_of(item.landed.path.name, row, [])
                rows.append(row)
        return rows

    def _enter(self, usable: Sequence[Item], embeddings: Sequence[Spec]) -> None:
        lake, request = self._lake, self._request
        now = lake.clock()
        references = load_references(lake)
        rows = [
            member_row(
                lake.rules.reference_set,
                item.landed.frame_id,
                item.landed.path.name,
                name_in_log(embedding),
                action="add",
                at=now,
                by=request.by,
                why=request.why,
            )
            for embedding in embeddings
            for item in usable
            if item.landed.frame_id not in references.id_set(spec_of(embedding))
        ]
        self._switch.reach("commit reference_members")
        lake.tables.append("reference_members", rows)

    def _append_missing(
        self,
        table: str,
        rows: Sequence[Row],
        batch: Batch,
        key: str,
        doubtful: Sequence[str],
        *,
        unique: Sequence[str] = (),
    ) -> list[Row]:
        """Append the rows the table lacks; only contents an earlier process may have written are looked up.

        Returns:
            Rows that were left out because another process wrote theirs while we were at it.
        """
        if doubtful and rows:
            stored = self._lake.tables.scan(table, [key], where={"frame_id": sorted(set(doubtful))})
            present = set(stored.column(key).to_pylist())
            rows = [row for row in rows if row[key] not in present]
        return self._append(table, rows, batch, unique or (key,))

    def _append(self, table: str, rows: Sequence[Row], batch: Batch, unique: Sequence[str]) -> list[Row]:
        if not rows:
            return []
        self._switch.reach(f"commit {table}")
        return [dict(row) for row in self._lake.tables.append_new(table, rows, _positions(batch), unique)]

    def _drop_detections(self, verdict_ids: Sequence[str]) -> None:
        """Take back what was found under verdicts that were not needed."""
        if not verdict_ids:
            return
        stored = self._lake.tables.scan("verdicts", ["verdict_id"], where={"verdict_id": verdict_ids})
        strays = sorted(set(verdict_ids) - set(stored.column("verdict_id").to_pylist()))
        if strays:
            self._lake.tables.delete("detections", {"verdict_id": strays})

    def _deliver(self, batch: Batch) -> None:
        deliver(self._lake, batch, self._request.purpose, self._beaten, self._switch)
        self.forget(batch.working())

    def forget(self, items: Sequence[Item]) -> None:
        """They are committed, or another process's affair."""
        done = {item.landed.frame_id for item in items}
        self.in_flight -= done
        self._beaten -= done

    def _locate(self, judged: Judged) -> list[tuple[Detection, float | None, float | None]]:
        if judged.judgement.status is not Status.ANOMALY:
            return []
        # Astronomy's coordinate library loads slowly and only flagged frames need it.
        from pipeline.frame.places import pixel_to_sky  # noqa: PLC0415

        row, detections = judged.prepared.row, self._find_places(judged)
        places = pixel_to_sky(row.header, [(d.x, d.y) for d in detections])
        return [(d, *place) for d, place in zip(detections, places, strict=True)]

    def _find_places(self, judged: Judged) -> Sequence[Detection]:
        """Where a model says, or where the vectors of a grid differ most."""
        if judged.embedding.saturates:
            return judged.prepared.detections
        if judged.nearest is None:
            return []
        row, embedding = judged.prepared.row, find_embedding(judged.embedding.name, self._lake.embeddings)
        vector = judged.prepared.vectors[embedding.name]
        return locate_differences(vector, judged.nearest, embedding.grid, (row.height, row.width))


def _entity(item: Item, embedding: Spec) -> VectorEntity:
    if not isinstance(item.result, Prepared):
        raise TypeError("only a decoded frame has a vector")
    return entity_of(item.landed.frame_id, item.result, embedding)


def _is_prepared(item: Item) -> bool:
    return isinstance(item.result, Prepared)


def _known_ids(batch: Batch) -> list[str]:
    """Contents that may have rows already."""
    return [i.landed.frame_id for i in batch.working() if i.standing is not Standing.FRESH or i.resumed]


def _positions(batch: Batch) -> list[SourcePosition]:
    return sorted({item.raw.position for item in batch.landed() if item.raw is not None})
