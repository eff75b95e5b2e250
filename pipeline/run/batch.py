"""One micro-batch on its way: what each file is to the lake, what the workers made of it, and the rows that follow."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.ports import RawFrame
from pipeline.run.land import Landed, NotLanded
from pipeline.run.prepared import Prepared, Unreadable
from pipeline.run.report import Report
from pipeline.run.workers import PendingFrame


class Purpose(StrEnum):
    """Why frames are brought in."""

    INGEST = "ingest"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class IngestRequest:
    """What is asked of a run.

    Attributes:
        purpose: judge the frames, or make them references.
        embedding: use this one; None takes the best that the references allow.
        record_duplicates: note a further delivery of known content (a topic or a followed spool), or answer only.
        judge_again: write a new verdict on known frames, against the references as they are now.
        by: who makes these frames references.
        why: the reason given.
    """

    purpose: Purpose = Purpose.INGEST
    embedding: str | None = None
    record_duplicates: bool = False
    judge_again: bool = False
    by: str = ""
    why: str = ""


class Standing(StrEnum):
    """What a landed file is to the lake."""

    FRESH = "fresh"  # content never seen
    AGAIN = "again"  # known content that still needs work: a verdict, or a place among the references
    KNOWN = "known"  # known and settled: answered from the lake


@dataclass(slots=True)
class Item:
    """One file of a batch."""

    landed: Landed
    standing: Standing
    raw: RawFrame | None = None
    pending: PendingFrame | None = None
    # Not yet in `deliveries` although numbered by an earlier process: its rows may be there already.
    resumed: bool = False
    silent: bool = False
    result: Prepared | Unreadable | None = None


@dataclass(slots=True)
class Batch:
    """Items in the order given; `NotLanded` ones are only reported."""

    items: list[Item | NotLanded]
    reports: dict[str, Report] = field(default_factory=dict)

    def landed(self) -> list[Item]:
        """Items that have content."""
        return [item for item in self.items if isinstance(item, Item)]

    def working(self) -> list[Item]:
        """Items that go through the workers."""
        return [item for item in self.landed() if item.standing is not Standing.KNOWN]
