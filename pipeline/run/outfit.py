"""What a run compares frames with: references, models and embeddings, as they are now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.embed.types import Spec
from pipeline.ports import VectorSpec
from pipeline.run.batch import IngestRequest, Purpose
from pipeline.run.lake import Lake, spec_of
from pipeline.run.models import ModelIndex, load_index
from pipeline.run.prepared import PreparePlan
from pipeline.run.references import ReferenceSet, load_references


class Outfit:
    """Read when a run begins, and again when another process changed it.

    Attributes:
        references: the reference set.
        models: where workers find the models in use.
        embeddings: what is computed, best first.
    """

    def __init__(self, lake: Lake, request: IngestRequest) -> None:
        self._lake = lake
        self._request = request
        self.references: ReferenceSet = load_references(lake)
        self.models: ModelIndex = load_index(lake)
        self.embeddings = self._choose_embeddings()

    def plan(self) -> PreparePlan:
        """What workers are told; the index of models goes where a model is asked for."""
        plain = tuple(e for e in self._lake.embeddings if e in self.embeddings)
        index = self.models.path if any(e.saturates for e in self.embeddings) else None
        return replace(self._lake.plan, embeddings=plain, index=index)

    def follow(self) -> bool:
        """Read anew what other processes changed; whether anything was."""
        lake = self._lake
        if not lake.shared:
            return False
        members = lake.tables.snapshot_id("reference_members") != self.references.snapshot_id
        models = lake.tables.snapshot_id("models") != self.models.snapshot_id
        if members:
            self.references = load_references(lake)
        if models:
            self.models = load_index(lake)
            self.embeddings = self._choose_embeddings()
        return members or models

    def keep_members(self, spec: VectorSpec, frame_ids: Sequence[str]) -> list[str]:
        """Of these references the members; an interrupted change of the set may have left others searchable."""
        members = self.references.id_set(spec)
        strangers = [i for i in frame_ids if i not in members]
        # Where stores are shared they may be those of a process that is adding them now.
        if strangers and not self._lake.shared:
            self._lake.vectors.drop_references(spec, strangers)
        return [i for i in frame_ids if i in members]

    @property
    def learns(self) -> bool:
        """Whether what becomes a reference is learnt from."""
        lake, asked = self._lake, self._request.embedding
        return lake.residual is not None and asked in (None, lake.residual.name)

    def list_members(self) -> frozenset[str]:
        """Those that are all that is asked for already."""
        specs = [self.embeddings[0], *([self._lake.residual] if self.learns and self._lake.residual else [])]
        return frozenset.intersection(*(self.references.id_set(spec_of(spec)) for spec in specs))

    def _choose_embeddings(self) -> tuple[Spec, ...]:
        """What is computed: the one asked for, or whatever the reference set knows, best first."""
        lake, asked = self._lake, self._request.embedding
        if asked is not None and not lake.find(asked).saturates:
            return (lake.find(asked),)
        if self._request.purpose is Purpose.REFERENCE:
            return lake.embeddings[:1]
        used = self.references.embeddings()
        # Where a model does not serve, what takes none answers.
        plain = tuple(e for e in lake.embeddings if e.name in used) or lake.embeddings[:1]
        return (lake.residual, *plain) if lake.residual is not None and self.models.path is not None else plain
