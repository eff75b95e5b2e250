"""The stores and rules a run works with, put together by `wiring` and by tests with fakes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata

from pipeline.embed.registry import find_embedding
from pipeline.embed.types import Embedding, Spec
from pipeline.judge.eligibility import EligibilityRule
from pipeline.judge.prefilter import SearchRules
from pipeline.ports import FrameSource, MessageLog, OriginalStore, TableStore, VectorSpec, VectorStore
from pipeline.run.prepared import PreparePlan
from pipeline.store.known import KnownIds

# Written once, in pyproject.toml; every verdict carries it.
CODE_VERSION = metadata.version("oddframe")


@dataclass(frozen=True, slots=True)
class JudgeRules:
    """How a frame is judged; every verdict carries what of this it depends on."""

    budget: float
    neighbours: int
    min_references: int
    search: SearchRules
    eligibility: tuple[EligibilityRule, ...]
    reference_set: str
    leave_out_bad: bool = False


@dataclass(frozen=True, slots=True)
class Lake:
    """Ports and rules; concrete stores are named in `parts` alone.

    Attributes:
        open_log: the topic of that name, None where there is none (any more).
        shared: other processes may write to the tables and vectors at the same time.
        models: artefacts of fields' models, by content hash.
        residual: the embedding that takes them; None where it is switched off.
        workers: processes that decode.
        batch: most frames of one commit.
    """

    tables: TableStore
    vectors: VectorStore
    originals: OriginalStore
    models: OriginalStore
    source: FrameSource
    open_log: Callable[[str], AbstractContextManager[MessageLog | None]]
    embeddings: tuple[Embedding, ...]
    residual: Spec | None
    plan: PreparePlan
    rules: JudgeRules
    shared: bool
    workers: int
    batch: int
    clock: Callable[[], datetime]

    def find(self, embedding: str) -> Spec:
        """The embedding of this name.

        Raises:
            UsageError: there is none.
        """
        return find_embedding(embedding, self.specs)

    @property
    def specs(self) -> tuple[Spec, ...]:
        """Every embedding, best first."""
        return ((self.residual,) if self.residual is not None else ()) + self.embeddings


def spec_of(embedding: Spec) -> VectorSpec:
    """The collection an embedding's vectors belong to."""
    return VectorSpec(embedding.name, embedding.version, embedding.dimension)


def name_in_log(embedding: Spec) -> str:
    """What a reference is entered under: a key, or the name alone where a model makes vectors of any version anew."""
    return embedding.name if embedding.saturates else spec_of(embedding).key


def load_known(lake: Lake) -> KnownIds:
    """Every frame id the lake has a row or a verdict of."""
    columns = (lake.tables.scan(table, ["frame_id"]).column("frame_id") for table in ("frames", "verdicts"))
    return KnownIds(frame_id for column in columns for chunk in column.chunks for frame_id in chunk.to_pylist())


class KillSwitch:
    """Named steps of the commit order; a fault harness may stop the process at any of them."""

    def __init__(self, on_step: Callable[[str], None] | None = None) -> None:
        self._on_step = on_step

    def reach(self, step: str) -> None:
        """Tell whoever listens that this step is about to begin."""
        if self._on_step is not None:
            self._on_step(step)
