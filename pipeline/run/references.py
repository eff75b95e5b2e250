"""The reference repository as a log of entries and exits; the set at any snapshot can be rebuilt from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.run.lake import Lake


@dataclass(frozen=True, slots=True)
class Member:
    """A frame that is a reference now, under one embedding."""

    frame_id: str
    name: str
    embedding: str


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """Members at one snapshot of `reference_members`; `names` maps frame ids to names."""

    name: str
    snapshot_id: int | None
    members: tuple[Member, ...]
    names: Mapping[str, str]

    def ids(self, embedding: str) -> list[str]:
        """Members under one embedding, in id order."""
        return sorted(m.frame_id for m in self.members if m.embedding == embedding)

    def embeddings(self) -> set[str]:
        """Embeddings that have at least one reference."""
        return {m.embedding for m in self.members}


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
    """Replay entries and exits in time order; the last event of a frame under an embedding stands."""
    latest: dict[tuple[str, str], Mapping[str, Any]] = {}
    for event in sorted(events, key=lambda e: (e["at"], e["frame_id"])):
        latest[event["frame_id"], event["embedding"]] = event
    return tuple(
        Member(frame_id, str(event["name"]), embedding)
        for (frame_id, embedding), event in sorted(latest.items())
        if event["action"] == "add"
    )
