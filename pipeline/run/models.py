"""The models there are: rows of `models` folded to those in use, and the index that workers find them by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError
from pipeline.ports import OriginalStore, TableStore
from pipeline.run.fields import FieldModel, Site, write_index
from pipeline.run.lake import Lake

Row = Mapping[str, Any]

LEARNT, RETIRED = "learnt", "retired"


@dataclass(frozen=True, slots=True)
class ModelSet:
    """Models of one reference set at one snapshot of `models`.

    Attributes:
        snapshot_id: None while the table is empty.
        models: those in use; their paths are empty.
        rows: of these models, by id.
    """

    snapshot_id: int | None
    models: tuple[FieldModel, ...]
    rows: Mapping[str, Row]

    def find_member(self, frame_id: str) -> FieldModel | None:
        """The model that was learnt from this reference."""
        return next((model for model in self.models if frame_id in model.members), None)


def load_models(tables: TableStore, reference_set: str, version: str) -> ModelSet:
    """The models in use now, of one version of the embedding."""
    snapshot = tables.snapshot_id("models")
    if snapshot is None:
        return ModelSet(None, (), {})
    rows = tables.scan("models", where={"reference_set": [reference_set], "version": [version]}).to_pylist()
    current = fold_models(rows)
    return ModelSet(snapshot, tuple(to_model(row) for row in current.values()), current)


def fold_models(rows: Iterable[Row]) -> dict[str, Row]:
    """Replay what was learnt and retired in time order; rows of the models in use, by id."""
    latest: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: (row["at"], row["event"] == LEARNT)):
        latest[row["model"]] = row
    return {model: row for model, row in sorted(latest.items()) if row["event"] == LEARNT}


def find_model_row(tables: TableStore, model: str) -> Row:
    """The row of a model, in use or not.

    Raises:
        StoreError: there is none.
    """
    rows = tables.scan("models", where={"model": [model], "event": [LEARNT]}).to_pylist()
    if not rows:
        raise StoreError(f"there is no model {model} in the table of models any more")
    row: Row = rows[0]
    return row


def to_model(row: Row) -> FieldModel:
    """A row of `models` as workers know it, its path still empty."""
    site = Site(row["instrument"], row["filter"], row["exposure_s"], row["ra"], row["dec"], row["radius_deg"])
    return FieldModel(
        model=row["model"],
        site=site,
        members=tuple(row["members"] or ()),
        registered=tuple(row["registered"] or ()),
        odd=tuple(row["odd"] or ()),
        anchor=dict(row["anchor"] or ()),
        to_stack=tuple(row["to_stack"] or ()),
    )


@dataclass(frozen=True, slots=True)
class ModelIndex:
    """Where workers find the models in use, at one snapshot of `models`; no path where there are none."""

    snapshot_id: int | None
    path: Path | None


def load_index(lake: Lake) -> ModelIndex:
    """The index of the models in use now."""
    if lake.residual is None:
        return ModelIndex(lake.tables.snapshot_id("models"), None)
    held = load_models(lake.tables, lake.rules.reference_set, lake.residual.version)
    return ModelIndex(held.snapshot_id, keep_index(lake.models, held.models))


def keep_index(store: OriginalStore, models: Iterable[FieldModel]) -> Path | None:
    """Write the index of those models whose artefacts are at hand; None where there are none."""
    placed = [replace(model, path=str(place)) for model in models if (place := store.locate(model.model)) is not None]
    if not placed:
        return None
    content = write_index(placed)
    return store.keep(sha256(content).hexdigest(), content)
