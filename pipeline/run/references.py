"""The reference repository as a log of entries and exits; the set at any snapshot can be rebuilt from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.ports import VectorSpec
from pipeline.run.lake import Lake

SHORTEST_ID = 6
"""Fewer digits of an id are taken for a name."""


@dataclass(frozen=True, slots=True)
class Member:
    """A frame that is a reference now.

    `embedding` is the key of one spec, e.g. `pixels@1-32x32`; its name alone where a model makes the vectors of any
    version anew.
    """

    frame_id: str
    name: str
    embedding: str

    def is_named(self, text: str) -> bool:
        """Whether a text is its name, its id or the beginning of its id."""
        return text == self.name or (len(text) >= SHORTEST_ID and self.frame_id.startswith(text))

    @property
    def spec(self) -> VectorSpec:
        """The spec of that key; its dimension, which the log does not know, is 0."""
        name, _, version = self.embedding.partition("@")
        return VectorSpec(name, version, 0)


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """Members at one snapshot of `reference_members`; `names` maps frame ids to names."""

    name: str
    snapshot_id: int | None
    members: tuple[Member, ...]
    names: Mapping[str, str]
    _by_spec: dict[str, frozenset[str]] = field(default_factory=dict, compare=False, repr=False)

    def ids(self, spec: VectorSpec) -> list[str]:
        """Members under one spec, in id order."""
        return sorted(self.id_set(spec))

    def id_set(self, spec: VectorSpec) -> frozenset[str]:
        """Members under one spec."""
        if spec.key not in self._by_spec:
            keys = (spec.key, spec.name)
            self._by_spec[spec.key] = frozenset(m.frame_id for m in self.members if m.embedding in keys)
        return self._by_spec[spec.key]

    def embeddings(self) -> set[str]:
        """Names of the embeddings that have at least one reference, whatever the version."""
        return {m.spec.name for m in self.members}

    def find_outdated(self, spec: VectorSpec) -> list[Member]:
        """Members under other versions of this spec whose frames are not members under it."""
        current = set(self.ids(spec))
        return [m for m in self.members if m.spec.name == spec.name and m.frame_id not in current]

    def explain_absence(self, spec: VectorSpec) -> str:
        """What to do about references of other versions, as the end of a sentence; empty where there are none."""
        outdated = self.find_outdated(spec)
        if not outdated:
            return ""
        versions = ", ".join(sorted({m.embedding for m in outdated}))
        return (
            f"; {len({m.frame_id for m in outdated})} references are under {versions} and not under {spec.key}: "
            "`oddframe reference add` their files again"
        )


def load_references(lake: Lake, as_of: int | None = None) -> ReferenceSet:
    """The reference set now, or as it was at a snapshot."""
    name = lake.rules.reference_set
    snapshot = as_of if as_of is not None else lake.tables.snapshot_id("reference_members")
    if snapshot is None:
        return ReferenceSet(name, None, (), {})
    events = lake.tables.scan("reference_members", where={"reference_set": [name]}, as_of=as_of).to_pylist()
    members = fold_members(events)
    return ReferenceSet(name, snapshot, members, {m.frame_id: m.name for m in members})


def fold_members(events: Iterable[Mapping[str, Any]]) -> tuple[Member, ...]:
    """Replay entries and exits in time order; the last event of a frame in a set and under an embedding stands."""
    latest: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for event in sorted(events, key=lambda e: (e["at"], e["frame_id"])):
        latest[event["frame_id"], event["embedding"], event["reference_set"]] = event
    return tuple(
        Member(frame_id, str(event["name"]), embedding)
        for (frame_id, embedding, _), event in sorted(latest.items())
        if event["action"] == "add"
    )
