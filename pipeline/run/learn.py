"""References -> models: one a field, learnt anew where its references changed, entered where searches find them.

The artefact first, then the vectors, the row of `models` last: until it is there the models before stay in use, and
whatever was done by then may be done again without harm.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from hashlib import sha256
from typing import Any

from pipeline.difference.artefact import to_bytes
from pipeline.ports import VectorSpec
from pipeline.run.fields import KIND, Site, group_fields, site_of_row
from pipeline.run.lake import CODE_VERSION, KillSwitch, Lake, spec_of
from pipeline.run.models import LEARNT, RETIRED, Row, load_models
from pipeline.run.references import load_references
from pipeline.run.rows import entity_of_row
from pipeline.run.study import Material, Progress, Studied

_NAMED = 5


@dataclass(frozen=True, slots=True)
class Lesson:
    """What became of one field.

    Attributes:
        field: in words.
        outcome: `learnt`, `kept` (nothing changed), `too_few` or `unregistered` (too few could be registered).
        references: how many the field has.
        registered: how many of them the model rests on.
        odd: names of those that the others would flag, and so are not compared with.
        left_out: names of those that were left out as odd altogether.
        unregistered: names of those that could not be registered, or read.
        model: sha256 (hex) of the artefact; None where there is none.
        seconds: how long it took.
    """

    field: str
    outcome: str
    references: int
    registered: int = 0
    odd: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    unregistered: tuple[str, ...] = ()
    model: str | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """One line of `oddframe reference learn --json`."""
        return asdict(self)

    def tell(self) -> str:
        """One sentence for people."""
        said = {
            "kept": f"{self.registered} references, as before",
            "too_few": f"{self.references} references are too few for a model: pixels alone are compared",
            "unregistered": (
                f"{self.registered} of {self.references} references could be registered, too few for a model: "
                "pixels alone are compared"
            ),
        }.get(self.outcome, f"learnt from {self.registered} of {self.references} references in {self.seconds:.1f} s")
        told = (("odd, look at them", self.odd), ("left out", self.left_out), ("not registered", self.unregistered))
        for word, names in told:
            if names and self.outcome == LEARNT:
                said += f"; {word}: {', '.join(names[:_NAMED])}{' and more' if len(names) > _NAMED else ''}"
        return f"field {self.field}: {said}"


def learn_models(
    lake: Lake, on_progress: Progress = lambda _: None, switch: KillSwitch | None = None, *, anew: bool = False
) -> Iterator[Lesson]:
    """Learn a model of every field whose references changed, and retire those that no field has any more.

    Args:
        lake: open for writing.
        on_progress: told the name of each reference that is read.
        switch: for those who kill it on the way.
        anew: learn every field again, changed or not.

    Returns:
        What became of each field, one at a time; nothing where the embedding is switched off.
    """
    if lake.residual is None:
        return
    spec = spec_of(lake.residual)
    references = load_references(lake)
    rows = _load_frames(lake, references.ids(spec))
    sites = {i: site_of_row(row, lake.plan.sky.default_radius) for i, row in rows.items()}
    learner = _Learner(lake, spec, references.snapshot_id, switch or KillSwitch())
    unclaimed = dict(load_models(lake.tables, lake.rules.reference_set, spec.version).rows)
    for founder, ids in group_fields(sites, lake.rules.search.exposure_factor):
        ours = [row for row in unclaimed.values() if set(ids) & set(_list_considered(row))]
        for row in ours:
            del unclaimed[row["model"]]
        held = next((row for row in ours if set(_list_considered(row)) == set(ids)), None)
        if held is not None and not anew and lake.models.locate(held["model"]) is not None:
            yield Lesson(describe_site(founder), "kept", len(ids), len(held["registered"]), model=held["model"])
        else:
            yield learner.learn(founder, {i: rows[i] for i in ids}, ours, on_progress)
    if unclaimed:
        learner.retire(list(unclaimed.values()))


def _list_considered(row: Row) -> list[str]:
    return [*row["members"], *row["left_out"]]


def _load_frames(lake: Lake, ids: Sequence[str]) -> dict[str, Row]:
    """Rows of `frames`, earliest observation first."""
    if not ids:
        return {}
    columns = ["frame_id", "name", "instrument", "filter", "exposure_s", "ra", "dec", "radius_deg", "zone", "obs_time"]
    rows = lake.tables.scan("frames", columns, where={"frame_id": sorted(ids)}).to_pylist()
    rows.sort(key=lambda row: (row["obs_time"] is None, row["obs_time"], row["frame_id"]))
    return {row["frame_id"]: row for row in rows}


def describe_site(site: Site) -> str:
    """A field in words."""
    at = "no position" if site.ra is None or site.dec is None else f"{site.ra:.4f} {site.dec:+.4f}"
    exposure = "unknown exposure" if site.exposure_s is None else f"{site.exposure_s:g} s"
    return f"{at}, {site.instrument or 'unknown instrument'}, {site.filter or 'no filter'}, {exposure}"


class _Learner:
    """Learns fields of one reference set, as its log was at one snapshot."""

    def __init__(self, lake: Lake, spec: VectorSpec, snapshot: int | None, switch: KillSwitch) -> None:
        self._lake = lake
        self._switch = switch
        self._spec = spec
        self._snapshot = snapshot

    def learn(self, founder: Site, rows: Mapping[str, Row], retired: Sequence[Row], on_progress: Progress) -> Lesson:
        """Learn one field and put its model in the place of those that its references had."""
        start, words, least = time.monotonic(), describe_site(founder), self._lake.rules.min_references
        if len(rows) < least:
            self.retire(retired)
            return Lesson(words, "too_few", len(rows))
        studied = Material(self._lake, rows, on_progress).study()
        registered = studied.registered if studied is not None else ()
        if studied is None or len(registered) < least:
            self.retire(retired)
            lost = tuple(str(row["name"]) for i, row in rows.items() if i not in registered)
            return Lesson(words, "unregistered", len(rows), len(registered), unregistered=lost)
        model = self._enter(founder, rows, studied, retired)
        names = {i: str(row["name"]) for i, row in rows.items()}
        return Lesson(
            words,
            LEARNT,
            len(rows),
            len(registered),
            tuple(names[i] for i in studied.odd),
            tuple(names[i] for i in studied.left_out),
            tuple(names[i] for i in rows if i not in {*registered, *studied.odd, *studied.left_out}),
            model,
            time.monotonic() - start,
        )

    def retire(self, rows: Sequence[Row]) -> None:
        """Take models out of use, and their references out of the searchable ones."""
        self._lake.tables.append("models", [{**row, "event": RETIRED, "at": self._lake.clock()} for row in rows])
        self._drop(rows)

    def _drop(self, rows: Sequence[Row], *, but: Sequence[str] = ()) -> None:
        stale = {i for row in rows for i in row["registered"]} - set(but)
        self._lake.vectors.drop_references(self._spec, sorted(stale))

    def _enter(self, founder: Site, rows: Mapping[str, Row], studied: Studied, retired: Sequence[Row]) -> str:
        lake, content = self._lake, to_bytes(studied.learnt)
        model = sha256(content).hexdigest()
        self._switch.reach("keep model")
        lake.models.keep(model, content)
        vectors = zip(studied.ids, studied.learnt.vectors, strict=True)
        entities = [entity_of_row(rows[i], vector, model) for i, vector in vectors if vector is not None]
        self._switch.reach("learnt vectors")
        lake.vectors.upsert(self._spec, entities)
        self._drop(retired, but=studied.registered)
        self._switch.reach("learnt references")
        lake.vectors.put_references(self._spec, [e for e in entities if e.frame_id in studied.registered])
        lake.vectors.flush()
        row = {
            **_describe_field(founder),
            **_describe_study(studied),
            "model": model,
            "kind": KIND,
            "version": self._spec.version,
            "event": LEARNT,
            "at": lake.clock(),
            "reference_set": lake.rules.reference_set,
            "reference_snapshot_id": self._snapshot,
            "bytes": len(content),
            "uri": f"sha256:{model}",
            "code_version": CODE_VERSION,
        }
        self._switch.reach("commit models")
        # One commit: there is no moment at which the field has none, or two.
        gone = [{**r, "event": RETIRED, "at": row["at"]} for r in retired if r["model"] != model]
        lake.tables.append("models", [*gone, row])
        return model


def _describe_field(founder: Site) -> dict[str, Any]:
    return {
        "instrument": founder.instrument,
        "filter": founder.filter,
        "exposure_s": founder.exposure_s,
        "ra": founder.ra,
        "dec": founder.dec,
        "radius_deg": founder.radius,
    }


def _describe_study(studied: Studied) -> dict[str, Any]:
    stack = studied.learnt.stack
    metrics = {
        "stars": str(len(stack.sources)),
        "height": str(stack.known.shape[0]),
        "width": str(stack.known.shape[1]),
        "known_fraction": f"{float(stack.known.mean()):.4f}",
        "restless_fraction": f"{float((stack.scatter > 1).mean()):.4f}",
        "detector": "learnt" if studied.learnt.detector is not None else "not learnt",
    }
    return {
        "members": list(studied.ids),
        "registered": list(studied.registered),
        "odd": list(studied.odd),
        "left_out": list(studied.left_out),
        "anchor": list(studied.anchor.items()),
        "to_stack": list(astuple(studied.to_stack)),
        "metrics": list(metrics.items()),
    }
