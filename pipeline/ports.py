"""What the steps ask of sources and stores, and the values that cross between them. Types only: no behaviour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, order=True)
class SourcePosition:
    """One place in one log: a Kafka partition and offset, or a spool directory and the number given to a file."""

    partition: str
    offset: int


@dataclass(frozen=True, slots=True)
class RawFrame:
    """One message as delivered: where it stands in its source, and where its bytes can be read.

    Attributes:
        empty: places just before it in its log that hold no message and never will.
        declared: what the sender says of the frame besides, by name.
    """

    name: str
    path: Path
    position: SourcePosition
    frame_id: str
    size: int
    received_at: datetime
    empty: tuple[SourcePosition, ...] = ()
    declared: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Prefilter:
    """The metadata a reference must share with a frame before their vectors are compared.

    Attributes:
        instrument: exact, or None: then only references without an instrument match.
        filter: exact, or None likewise.
        zones: HEALPix cells; a reference in any of them matches; empty: only references without a position.
        exposure_min: seconds, inclusive; None with `exposure_max` None: only references of unknown exposure.
        exposure_max: seconds, inclusive.
        obs_after: earliest observation time of a reference, or None for no bound.
        obs_before: latest observation time of a reference, or None for no bound.
        model: what the vectors were made with, exact; None: vectors that take no model.
        anywhere: references of any zone match, and those without a position; `zones` says nothing then.
    """

    instrument: str | None
    filter: str | None
    zones: tuple[int, ...]
    exposure_min: float | None
    exposure_max: float | None
    obs_after: datetime | None = None
    obs_before: datetime | None = None
    model: str | None = None
    anywhere: bool = False


@dataclass(frozen=True, slots=True)
class VectorSpec:
    """Which collection a vector belongs to: two specs never meet in one search.

    Attributes:
        name: what users type, e.g. `pixels`.
        version: changes whenever the numbers would, e.g. `1-32x32`.
        dimension: length of the vector.
    """

    name: str
    version: str
    dimension: int

    @property
    def key(self) -> str:
        """Name and version as one word, e.g. `pixels@1-32x32`."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class VectorEntity:
    """A unit vector with the metadata a search filters on; `model` is what it was made with, None for none."""

    frame_id: str
    vector: NDArray[np.float32]
    instrument: str | None
    filter: str | None
    zone: int | None
    exposure_s: float | None
    obs_time: datetime | None
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reference found by a search; `distance` is the L2 distance, never its square."""

    frame_id: str
    distance: float


@dataclass(frozen=True, slots=True)
class VectorCounts:
    """What a collection holds: entities of frames, entities of references, and ids stored more than once."""

    frames: frozenset[str]
    references: frozenset[str]
    doubled: frozenset[str] = field(default=frozenset())


@dataclass(frozen=True, slots=True)
class VectorCompaction:
    """What became of one collection's segments.

    Attributes:
        collection: its name in the store.
        state: `done`; `unfinished`: still at work when the time was up; `automatic`: the store does it by itself.
        segments_before: how many there were, None where the store does not say.
        segments_after: the same afterwards.
    """

    collection: str
    state: str
    segments_before: int | None = None
    segments_after: int | None = None


class ReferenceVectors(Protocol):
    """An exact L2 search among references under a metadata prefilter."""

    def search(
        self, spec: VectorSpec, queries: NDArray[np.float32], prefilter: Prefilter, k: int
    ) -> list[list[Candidate]]:
        """The k nearest references of each query, nearest first, fewer where the cell holds fewer."""

    def members(self, spec: VectorSpec, prefilter: Prefilter, limit: int) -> list[str]:
        """Frame ids of the references that pass the prefilter, in id order, at most `limit`."""

    def zones(self, spec: VectorSpec, prefilter: Prefilter) -> dict[str, int | None]:
        """Zones of the references that pass the prefilter, by frame id; None without a position."""

    def fetch(self, spec: VectorSpec, frame_ids: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Stored vectors of these frames; unknown ids are absent from the answer."""

    def refresh(self) -> None:
        """Forget what was read of the references: another process may have changed them."""


class VectorStore(ReferenceVectors, Protocol):
    """Unit vectors by spec, of frames and of references."""

    def upsert(self, spec: VectorSpec, entities: Sequence[VectorEntity]) -> None:
        """Keep one vector per frame id; the same id again replaces the earlier one."""

    def put_references(self, spec: VectorSpec, entities: Sequence[VectorEntity]) -> None:
        """Make the frames searchable as references."""

    def drop_references(self, spec: VectorSpec, frame_ids: Sequence[str]) -> None:
        """Take frames out of the searchable references; their own vectors stay."""

    def contents(self, spec: VectorSpec) -> VectorCounts:
        """Every id held, for verification."""

    def delete(self, spec: VectorSpec, frame_ids: Sequence[str]) -> None:
        """Remove frames, as frames and as references."""

    def specs(self) -> list[str]:
        """Keys of the specs that hold anything."""

    def flush(self) -> None:
        """Make what was written fast to search and safe to close."""

    def compact(self, seconds: float) -> list[VectorCompaction]:
        """Merge small segments and drop deleted vectors, one answer a collection; waits at most so many seconds."""

    def close(self) -> None:
        """Release the store."""


class Positions(Protocol):
    """Which source positions a table already holds."""

    def holds(self, position: SourcePosition) -> bool:
        """Whether this position was part of a commit."""

    def first_missing(self, partition: str, start: int) -> int:
        """The first offset of a partition, from `start` on, that is not held."""

    def last(self, partition: str, before: int | None = None) -> int | None:
        """The last offset of a partition that is held, of those before `before`; None where there is none."""


class TableStore(Protocol):
    """Append-only tables with one atomic commit per call; every commit carries the source positions in it."""

    def append(
        self, table: str, rows: Sequence[Mapping[str, Any]], positions: Sequence[SourcePosition] = ()
    ) -> int | None:
        """Commit rows and positions at once; returns the snapshot id, None where there was nothing to write."""

    def append_new(
        self,
        table: str,
        rows: Sequence[Mapping[str, Any]],
        positions: Sequence[SourcePosition],
        unique: Sequence[str],
    ) -> list[Mapping[str, Any]]:
        """Commit those rows whose key (the columns `unique`) no other writer added since this store was opened.

        Looking and committing are one: nobody can come in between. What was there before, or was added by this store,
        is not looked at.

        Returns:
            The rows that were left out.
        """

    def scan(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        *,
        where: Mapping[str, Sequence[Any]] | None = None,
        as_of: int | None = None,
    ) -> pa.Table:
        """Rows as Arrow; `where` maps a column to the values it may have; `as_of` is a snapshot id."""

    def positions(self, table: str) -> Positions:
        """The positions this table holds, from its newest snapshot."""

    def snapshot_id(self, table: str) -> int | None:
        """The newest snapshot, None while the table is empty."""

    def delete(self, table: str, where: Mapping[str, Sequence[Any]]) -> int:
        """Remove rows whose columns have any of these values; returns how many."""

    def rewrite(self, table: str, where: Mapping[str, Sequence[Any]], data: pa.Table) -> None:
        """Replace the rows that match (all, if `where` is empty) in one commit."""


class OriginalStore(Protocol):
    """Frames as delivered, byte for byte, by content hash."""

    def put(self, source: Path) -> tuple[str, int, Path]:
        """Take a copy; returns sha256 (hex), size in bytes and where the copy can be read."""

    def keep(self, frame_id: str, content: bytes) -> Path:
        """Take bytes whose sha256 (hex) is known; returns where they can be read."""

    def locate(self, frame_id: str) -> Path | None:
        """Where the bytes of this frame can be read, None if they are not kept."""

    def ids(self) -> Iterator[str]:
        """Every content hash kept."""


class OriginalTier(Protocol):
    """One of the places originals are kept in: this machine, or an object store that is asked over a network."""

    def locate(self, frame_id: str) -> Path | None:
        """Where the bytes can be read, fetched if need be; None if they are not here."""

    def find_nearby(self, frame_id: str) -> Path | None:
        """Where the bytes can be read for good without asking anyone; None if they are not here or far away."""

    def is_intact(self, frame_id: str) -> bool:
        """Whether a copy is here and hashes to its name."""

    def adopt(self, frame_id: str, source: Path) -> None:
        """Take a durable copy and prove it; StoreError where it does not hash to its name."""

    def remove(self, frame_id: str) -> None:
        """Delete one copy."""

    def ids(self) -> Iterator[str]:
        """Every content hash kept here, without reading any content."""

    def sweep(self) -> int:
        """Remove half-written copies; returns how many."""


class FrameSource(Protocol):
    """A log of frames: every message has a position, positions only grow."""

    def enrol(self, raw: Sequence[tuple[Path, str, int]]) -> list[RawFrame]:
        """Give (path, frame_id, size) their positions, durably, before anything is done with them."""

    def pending(self, held: Positions) -> list[RawFrame]:
        """Messages enrolled whose position the lake does not hold yet."""

    def messages(self) -> Iterator[RawFrame]:
        """Every message ever given a position, in order: what `verify` compares with."""

    def acknowledge(self, positions: Sequence[SourcePosition]) -> None:
        """Tell the source how far we are: a hint, the lake holds the truth."""


class MessageLog(Protocol):
    """A topic read by nobody's leave: what `verify` compares with."""

    def count(self) -> int:
        """Places in it that may hold a message."""

    def find_missing(self, held: Positions) -> Iterator[SourcePosition]:
        """Messages whose positions are not held."""


class Spool(Protocol):
    """A directory that frames appear in."""

    def list_new(self, directory: Path) -> list[Path]:
        """Files that changed since they were last marked as seen, in name order."""

    def mark_seen(self, paths: Sequence[Path]) -> None:
        """Remember files whose batch is committed."""
