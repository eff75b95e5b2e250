"""The way of a batch, in order: land, sort out, number, decode, index, search and judge, commit, answer.

Vectors first, tables after; `deliveries` is committed last and is the moment that counts: a file whose position it
holds is done, anything else is done again, and every step in between may be done twice without harm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.embed.registry import find_embedding
from pipeline.errors import TransientError
from pipeline.ports import Positions, RawFrame, SourcePosition
from pipeline.run.batch import Batch, IngestRequest, Item, Purpose, Standing
from pipeline.run.commit import Committer
from pipeline.run.detect import Judge
from pipeline.run.lake import KillSwitch, Lake, load_known
from pipeline.run.land import Landed, NotLanded, split_batches
from pipeline.run.outfit import Outfit
from pipeline.run.prepared import TOO_MANY_BYTES
from pipeline.run.report import Report, report_not_landed
from pipeline.run.stored import load_reports, load_verdicts
from pipeline.run.workers import WorkerPool
from pipeline.source.places import is_partition
from pipeline.source.spool import show_path

_LEAST_FIRST = 64
_BEFORE_DELIVERIES = ("frames", "quarantine", "detections", "verdicts")


class Ingestor:
    """Brings frames into the lake. Use as a context manager: it owns worker processes."""

    def __init__(self, lake: Lake, request: IngestRequest, switch: KillSwitch | None = None) -> None:
        self._lake = lake
        self._request = request
        self._switch = switch or KillSwitch()
        self._known = load_known(lake)
        self._outfit = Outfit(lake, request)
        self._judge = Judge(lake.vectors, lake.rules, self._outfit.keep_members)
        self._committer = Committer(lake, request, self._judge, self._switch)
        held = lake.tables.positions("deliveries")
        self._pending = {_key(raw): raw for raw in lake.source.pending(held)}
        self._given_up: set[str] = set()
        self._pool = WorkerPool(self._outfit.plan(), lake.workers)

    def __enter__(self) -> Self:
        """Worker processes start at the first frame."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the workers; an unfinished batch is taken up again by the next run."""
        self._pool.__exit__(kind, error, trace)

    def ingest(self, paths: Sequence[Path], batch: int | None = None) -> Iterator[Report]:
        """Bring files in and say of each what it is, in the order given.

        Batches overlap by one: while one is judged and committed, the workers decode the next.
        """
        yield from self._overlap(self._start_all(paths, batch or self._lake.batch))

    def redrive(self) -> Iterator[Report]:
        """Try everything in quarantine again, from the copies that were kept."""
        groups = split_batches(self._list_quarantined(), self._lake.batch)
        yield from self._overlap(self._send(Batch(group)) for group in groups)

    def _list_quarantined(self) -> Iterator[Item | NotLanded]:
        """What is in quarantine; a copy is located when its batch is made, for it may have to be fetched."""
        rows = sorted(self._lake.tables.scan("quarantine").to_pylist(), key=lambda r: r["at"])
        for row in {r["frame_id"]: r for r in rows}.values():
            if row["event"] != "quarantined":
                continue
            place = self._lake.originals.locate(row["frame_id"])
            # A message has no directory: it is read from where its bytes were kept.
            directory = place.parent if place and is_partition(row["source_partition"]) else row["source_partition"]
            path = Path(str(directory).removeprefix("spool:")) / row["name"]
            if place is None:
                yield NotLanded(path, "its bytes were not kept; deliver it again")
                continue
            yield Item(Landed(path, row["frame_id"], row["bytes"], place), Standing.AGAIN, resumed=True)

    def begin(self, landed: Sequence[Landed]) -> Batch:
        """Send frames that came as messages, with their numbers, to the workers; `finish` the batches in this order."""
        batch = Batch(list(self._sort_out(landed)))
        self._switch.reach("number")
        return self._send(batch)

    def finish(self, batch: Batch, keep: Callable[[Sequence[SourcePosition]], set[SourcePosition]]) -> Iterator[Report]:
        """Wait for the workers, index, judge, commit and answer.

        Args:
            batch: as `begin` gave it.
            keep: says which of these messages may be committed by us, asked at the last moment.

        Raises:
            TransientError: besides those of the stores: what was worked on for a message that is ours came with one
                that is not any more; open everything anew.
        """
        self._wait(batch)
        allowed = keep([item.raw.position for item in batch.landed() if item.raw is not None])
        given_up = [i for i in batch.landed() if i.raw is not None and i.raw.position not in allowed]
        self._committer.forget(given_up)
        # Another process will bring them in: here they are as if they had not come.
        for item in given_up:
            if item.standing is Standing.FRESH:
                self._known.discard(item.landed.frame_id)
        batch.items = [item for item in batch.items if item not in given_up]
        self._refuse_orphans(batch, {i.landed.frame_id for i in given_up if i.standing is not Standing.KNOWN})
        if batch.items:
            yield from self._finish(batch)

    def _refuse_orphans(self, batch: Batch, given_up: set[str]) -> None:
        """A copy rests on the first one, of this batch or the one before; where that is another's, nobody saw to it."""
        gone, self._given_up = given_up | self._given_up, given_up
        for item in batch.landed():
            if item.standing is Standing.KNOWN and item.landed.frame_id in gone:
                raise TransientError(
                    f"another reader took over the message that brought the content of {item.landed.path.name} first"
                )

    def _overlap(self, batches: Iterable[Batch]) -> Iterator[Report]:
        """Finish each batch once the one after it has been sent to the workers."""
        started: deque[Batch] = deque()
        for batch in batches:
            started.append(batch)
            if len(started) > 1:
                yield from self._finish(started.popleft())
        while started:
            yield from self._finish(started.popleft())

    def _start_all(self, paths: Sequence[Path], size: int) -> Iterator[Batch]:
        if left_behind := self._find_left_behind({show_path(path.absolute()) for path in paths}):
            yield self._resume(left_behind)
        # Where batches are large a smaller one first: workers and stores are busy sooner.
        first = max(size // 8, min(size, _LEAST_FIRST))
        for landed in self._land_ahead(split_batches(paths, size, first)):
            batch = Batch(list(self._sort_out(landed)))
            self._switch.reach("number")
            yield self._send(batch)
        # Asked for by a name that has another content by now.
        if left_behind := self._find_left_behind(set()):
            yield self._resume(left_behind)

    def _land_ahead(self, groups: Iterable[Sequence[Path]]) -> Iterator[list[Landed | NotLanded]]:
        """Have each group landed by the workers while the one before it is judged and committed."""
        originals, limit = self._lake.originals, self._lake.plan.limits.max_bytes
        ahead: Callable[[], list[Landed | NotLanded]] | None = None
        for group in groups:
            following = self._pool.land(group, originals, limit)
            if ahead is not None:
                yield ahead()
            ahead = following
        if ahead is not None:
            yield ahead()

    def _send(self, batch: Batch) -> Batch:
        self._number(batch)
        self._submit(batch)
        return batch

    def _find_left_behind(self, asked: set[str]) -> list[RawFrame]:
        """What an interrupted run numbered and nobody asks for now."""
        # Frames that a killed `ingest` left are no references because references are added next.
        if self._request.purpose is Purpose.REFERENCE:
            return []
        return [raw for raw in self._pending.values() if str(raw.path) not in asked]

    def _resume(self, left_behind: Sequence[RawFrame]) -> Batch:
        landed: list[Landed | NotLanded] = []
        for raw in left_behind:
            place = self._lake.originals.locate(raw.frame_id) or raw.path
            landed.append(Landed(raw.path, raw.frame_id, raw.size, place))
        # What an interrupted `reference add` left half done is a reference or will be asked for again: not judged.
        batch = Batch(list(self._sort_out(landed, {m.frame_id for m in self._outfit.references.members})))
        for item in batch.landed():
            item.silent = True
        return self._send(batch)

    def _sort_out(
        self, landed: Sequence[Landed | NotLanded], references: set[str] | None = None
    ) -> Iterator[Item | NotLanded]:
        known = [f.frame_id for f in landed if isinstance(f, Landed) and f.frame_id in self._known]
        settled = self._find_settled(known) | (references or set())
        in_hand = set(self._committer.in_flight)
        for file in landed:
            if isinstance(file, NotLanded):
                yield file
                continue
            resumed = self._is_resumed(file)
            if file.frame_id not in self._known:
                standing = Standing.FRESH
            elif file.frame_id in in_hand or (file.frame_id in settled and not file.again):
                standing = Standing.KNOWN
            else:
                standing = Standing.AGAIN
            # A second copy in this batch or the next is settled by the first, whatever is asked of it.
            if standing is not Standing.KNOWN:
                in_hand.add(file.frame_id)
            self._known.add(file.frame_id)
            settled.add(file.frame_id)
            yield Item(file, standing, resumed=resumed, raw=file.message)

    @cached_property
    def _begun(self) -> list[Positions]:
        """What each table but the last holds before the first message of this run; files have a journal for that."""
        return [self._lake.tables.positions(table) for table in _BEFORE_DELIVERIES]

    def _is_resumed(self, file: Landed) -> bool:
        """Whether a process that was killed may have written rows of this message."""
        if file.message is not None:
            return any(held.holds(file.message.position) for held in self._begun)
        return self._pending.pop((str(file.path.absolute()), file.frame_id), None) is not None

    def _find_settled(self, known: Sequence[str]) -> set[str]:
        """Known contents that need no work: not those an interrupted or a different run left half done."""
        in_flight = self._committer.in_flight
        if self._request.purpose is Purpose.REFERENCE:
            return (in_flight | self._outfit.list_members()) & set(known)
        if self._request.judge_again:
            return in_flight & set(known)
        verdicts = load_verdicts(self._lake.tables, known, self._request.embedding)
        # What was over the size limit then, and was kept now, is within it.
        grown = {
            i for i, v in verdicts.items() if v["reason"].startswith(TOO_MANY_BYTES) and self._lake.originals.locate(i)
        }
        return (verdicts.keys() - grown) | (in_flight & set(known))

    def _number(self, batch: Batch) -> None:
        recorded = [
            item
            for item in batch.landed()
            if item.raw is None
            and (item.standing is not Standing.KNOWN or item.resumed or self._request.record_duplicates)
        ]
        numbers = self._lake.source.enrol([(i.landed.path, i.landed.frame_id, i.landed.size) for i in recorded])
        for item, raw in zip(recorded, numbers, strict=True):
            item.raw = raw

    def _submit(self, batch: Batch) -> None:
        for item in batch.working():
            self._committer.in_flight.add(item.landed.frame_id)
            if item.landed.fault is not None:
                item.result = item.landed.fault
            elif item.raw is not None:
                item.pending = self._pool.submit(item.raw, item.landed.place)

    def _wait(self, batch: Batch) -> None:
        for item in batch.working():
            if item.pending is not None:
                item.result = item.pending.wait()
                item.pending = None

    def _finish(self, batch: Batch) -> Iterator[Report]:
        self._wait(batch)
        self._follow(batch)
        outfit = self._outfit
        if self._request.purpose is Purpose.REFERENCE:
            embedding = find_embedding(outfit.embeddings[0].name, self._lake.embeddings)
            outfit.references = self._committer.commit_references(
                batch, embedding, outfit.references, learn=outfit.learns
            )
        else:
            self._committer.commit_frames(batch, outfit.embeddings, outfit.references)
        yield from self._answer(batch)

    def _follow(self, batch: Batch) -> None:
        """Where other processes may change references and models, look whether one did."""
        before = self._outfit.models
        if not self._outfit.follow():
            return
        self._judge.forget()
        if self._outfit.models != before:
            self._pool.change(self._outfit.plan())
            # What was compared with a model that is out of use would find none of its references.
            self._submit(batch)
            self._wait(batch)

    def _answer(self, batch: Batch) -> Iterator[Report]:
        earlier = [i.landed.frame_id for i in batch.landed() if i.landed.frame_id not in batch.reports and not i.silent]
        if self._request.purpose is Purpose.REFERENCE:
            earlier = [i for i in earlier if i not in self._outfit.list_members()]
        stored = load_reports(self._lake.tables, earlier, self._request.embedding)
        for item in batch.items:
            if isinstance(item, NotLanded):
                yield report_not_landed(item.path.name, item.reason)
            elif not item.silent:
                frame_id = item.landed.frame_id
                report = batch.reports.get(frame_id) or stored.get(frame_id) or self._committer.report_member(frame_id)
                yield {**report, "name": item.landed.path.name}


def _key(raw: RawFrame) -> tuple[str, str]:
    return (str(raw.path.absolute()), raw.frame_id)
