"""Prove that source, tables, vectors and originals agree; name each difference; repair what can be repaired."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.embed.types import Spec
from pipeline.errors import StoreError
from pipeline.ports import MessageLog, SourcePosition, VectorCounts
from pipeline.run.lake import Lake, spec_of
from pipeline.run.models import load_models
from pipeline.run.references import ReferenceSet, load_references
from pipeline.source.places import is_partition, split_partition
from pipeline.store.positions import PositionSet

_NAMED = 20


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison.

    Attributes:
        name: what was compared.
        expected: how many there should be.
        found: how many there are.
        differences: ids or positions that are wrong, all of them.
        repair: what mends it, in the words of `--repair` or as advice; empty where nothing is known to.
    """

    name: str
    expected: int
    found: int
    differences: tuple[str, ...]
    repair: str = ""

    @property
    def agrees(self) -> bool:
        """Whether nothing is wrong."""
        return not self.differences

    def to_json(self) -> dict[str, Any]:
        """One line of `oddframe verify --json`; names at most twenty differences."""
        return {
            "check": self.name,
            "ok": self.agrees,
            "expected": self.expected,
            "found": self.found,
            "differences": len(self.differences),
            "examples": list(self.differences[:_NAMED]),
            "repair": self.repair if self.differences else "",
        }


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What the tables and the source say, read once."""

    messages: dict[SourcePosition, str]
    deliveries: list[dict[str, Any]]
    frames: Counter[str]
    verdicts: list[dict[str, Any]]
    detections: set[str]
    quarantined: set[str]
    kept_in_quarantine: set[str]
    references: ReferenceSet
    ever_reference: set[str]


def verify_lake(lake: Lake) -> list[Check]:
    """Every comparison, in the order in which a frame passes."""
    ledger = _read(lake)
    checks = [
        _check_source(ledger),
        *_check_topics(lake, ledger),
        _check_deliveries(ledger),
        _check_frames_doubled(ledger),
        _check_frames_missing(ledger),
        _check_verdicts_missing(ledger),
        _check_verdicts_doubled(ledger),
        _check_detections(ledger),
        _check_originals(lake, ledger),
    ]
    for embedding in lake.embeddings:
        references = set(ledger.references.ids(spec_of(embedding)))
        checks += _check_vectors(embedding, lake.vectors.contents(spec_of(embedding)), ledger, references)
    return checks + list(_check_models(lake, ledger))


def _check_models(lake: Lake, ledger: _Ledger) -> Iterable[Check]:
    if lake.residual is None:
        return
    spec = spec_of(lake.residual)
    members = set(ledger.references.ids(spec))
    held = load_models(lake.tables, ledger.references.name, spec.version).models
    if not members and not held:
        return
    missing = sorted(model.model for model in held if lake.models.locate(model.model) is None)
    yield Check("models: every artefact is kept", len(held), len(held) - len(missing), tuple(missing), "learn")
    stale = sorted({i for model in held for i in model.members} - members)
    yield Check("models: learnt from references alone", len(held), len(held), tuple(stale), "learn")
    registered = {i for model in held for i in model.registered} & members
    yield from _check_vectors(lake.residual, lake.vectors.contents(spec), ledger, registered)


def _read(lake: Lake) -> _Ledger:
    tables = lake.tables
    members = tables.scan("reference_members", ["frame_id"]).column("frame_id").to_pylist()
    jailed = tables.scan("quarantine", ["frame_id", "archive_uri", "event", "at"]).to_pylist()
    return _Ledger(
        messages={raw.position: raw.frame_id for raw in lake.source.messages()},
        deliveries=tables.scan("deliveries", ["source_partition", "source_offset", "frame_id", "outcome"]).to_pylist(),
        frames=Counter(tables.scan("frames", ["frame_id"]).column("frame_id").to_pylist()),
        verdicts=tables.scan(
            "verdicts", ["verdict_id", "frame_id", "status", "embedding", "embedding_version"]
        ).to_pylist(),
        detections=set(tables.scan("detections", ["verdict_id"]).column("verdict_id").to_pylist()),
        quarantined={row["frame_id"] for row in jailed},
        kept_in_quarantine=_find_kept(jailed),
        references=load_references(lake),
        ever_reference=set(members),
    )


def _find_kept(jailed: Sequence[dict[str, Any]]) -> set[str]:
    """Contents in quarantine now whose bytes were kept when they came."""
    latest = {row["frame_id"]: row for row in sorted(jailed, key=lambda row: row["at"])}
    return {i for i, row in latest.items() if row["event"] == "quarantined" and row["archive_uri"] is not None}


def _check_source(ledger: _Ledger) -> Check:
    delivered = {SourcePosition(d["source_partition"], d["source_offset"]) for d in ledger.deliveries}
    pending = [_show(p) for p in sorted(ledger.messages.keys() - delivered)]
    return Check(
        "source: every numbered message is delivered",
        len(ledger.messages),
        len(ledger.messages) - len(pending),
        tuple(pending),
        "ingest",
    )


def _check_topics(lake: Lake, ledger: _Ledger) -> Iterable[Check]:
    delivered = {SourcePosition(d["source_partition"], d["source_offset"]) for d in ledger.deliveries}
    held = PositionSet().add(delivered)
    for topic in sorted({split_partition(p.partition)[0] for p in delivered if is_partition(p.partition)}):
        with lake.open_log(topic) as log:
            if log is None:
                yield Check(f"topic {topic}: gone, not compared", 0, 0, ())
                continue
            yield _check_log(topic, log, held)


def _check_log(topic: str, log: MessageLog, held: PositionSet) -> Check:
    name = f"topic {topic}: every message is delivered"
    try:
        missing = tuple(_show(position) for position in log.find_missing(held))
    except StoreError as error:
        # Another log than the lake was filled from: of nothing in it is known that it was delivered.
        return Check(name, log.count(), 0, (str(error),))
    count = log.count()
    # Not mended by itself: whoever reads the topic now may be at them.
    return Check(name, count, count - len(missing), missing, "watch")


def _check_deliveries(ledger: _Ledger) -> Check:
    counts = Counter(SourcePosition(d["source_partition"], d["source_offset"]) for d in ledger.deliveries)
    doubled = [_show(p) for p, n in sorted(counts.items()) if n > 1]
    return Check("deliveries: one row a message", len(counts), counts.total(), tuple(doubled), "drop doubled rows")


def _check_frames_doubled(ledger: _Ledger) -> Check:
    doubled = sorted(i for i, n in ledger.frames.items() if n > 1)
    return Check(
        "frames: one row a content", len(ledger.frames), ledger.frames.total(), tuple(doubled), "drop doubled rows"
    )


def _check_frames_missing(ledger: _Ledger) -> Check:
    readable = {d["frame_id"] for d in ledger.deliveries if d["outcome"] != "quarantined"}
    missing = sorted(readable - ledger.frames.keys() - ledger.quarantined)
    return Check(
        "frames: every delivered content has a row", len(readable), len(readable) - len(missing), tuple(missing)
    )


def _check_verdicts_missing(ledger: _Ledger) -> Check:
    contents = {d["frame_id"] for d in ledger.deliveries} | ledger.frames.keys()
    judged = {v["frame_id"] for v in ledger.verdicts}
    missing = sorted(contents - judged - ledger.ever_reference)
    settled = len(contents) - len(missing)
    return Check("verdicts: every content is judged or a reference", len(contents), settled, tuple(missing))


def _check_verdicts_doubled(ledger: _Ledger) -> Check:
    counts = Counter(v["verdict_id"] for v in ledger.verdicts)
    doubled = sorted(i for i, n in counts.items() if n > 1)
    return Check("verdicts: one row a judgement", len(counts), counts.total(), tuple(doubled), "drop doubled rows")


def _check_detections(ledger: _Ledger) -> Check:
    judged = {v["verdict_id"] for v in ledger.verdicts}
    stray = sorted(ledger.detections - judged)
    return Check(
        "detections: every one belongs to a verdict",
        len(ledger.detections),
        len(ledger.detections) - len(stray),
        tuple(stray),
        "drop strays",
    )


def _check_originals(lake: Lake, ledger: _Ledger) -> Check:
    contents = ledger.frames.keys() | ledger.kept_in_quarantine
    # Listed, never located: an archive far away would send every frame.
    missing = sorted(contents - set(lake.originals.ids()))
    return Check(
        "originals: every content's bytes are kept",
        len(contents),
        len(contents) - len(missing),
        tuple(missing),
        "deliver it again",
    )


def _check_vectors(embedding: Spec, held: VectorCounts, ledger: _Ledger, references: set[str]) -> Iterable[Check]:
    spec = spec_of(embedding)
    expected = references | {
        v["frame_id"]
        for v in ledger.verdicts
        if v["embedding"] == embedding.name
        and v["embedding_version"] == embedding.version
        and v["status"] in ("normal", "anomaly", "no_reference")
    }
    if not expected and not held.frames and not held.references:
        return []
    orphans = sorted((held.frames - ledger.frames.keys()) | (held.references - references))
    missing = sorted((expected - held.frames) | (references - held.references))
    return [
        Check(
            f"vectors {spec.key}: none without a row", len(expected), len(held.frames), tuple(orphans), "remove orphans"
        ),
        Check(f"vectors {spec.key}: none missing", len(expected), len(held.frames), tuple(missing), "embed again"),
        Check(
            f"vectors {spec.key}: none doubled",
            len(held.frames),
            len(held.frames),
            tuple(sorted(held.doubled)),
            "embed again",
        ),
    ]


def _show(position: SourcePosition) -> str:
    return f"{position.partition}#{position.offset}"


def count_wrong(checks: Sequence[Check]) -> int:
    """How many comparisons failed."""
    return sum(not check.agrees for check in checks)
