"""A topic, a lake of the full profile, and what is true of them: everything that was sent, kept apart from the lake."""

from __future__ import annotations

import random
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.parts import find_kafka, open_tables, open_vectors
from pipeline.ports import SourcePosition, VectorSpec
from pipeline.run.verify import count_wrong, verify_lake
from pipeline.sections import BatchSettings, DecodeSettings, KafkaSettings, StackSettings, StoreSettings
from pipeline.settings import Settings
from pipeline.simulate import plan_night, render_exposure, to_fits_bytes
from pipeline.source.messages import Outgoing, write_envelope, write_raw
from pipeline.source.producer import FrameProducer
from pipeline.source.topics import create_topic
from pipeline.stack.layout import Layout
from pipeline.wiring import open_lake
from tests.lake_tools import add_references
from tests.table_tools import drop_database

_REFERENCES = 6
_SIDE = 64
_PARTITIONS = 3


@dataclass(frozen=True)
class Damage:
    """What is wrong in the lake by the truth, and by its own word."""

    lost: int
    doubled: int
    wrong: int

    def __add__(self, other: Damage) -> Damage:
        return Damage(self.lost + other.lost, self.doubled + other.doubled, self.wrong + other.wrong)


@contextmanager
def lend_world(layout: Layout, directory: Path, seed: int) -> Iterator[World]:
    """A world whose vectors go with it: a Milvus server takes 64 databases, and works for each that is there."""
    world = World(layout, directory, seed)
    try:
        yield world
    finally:
        drop_database(f"http://127.0.0.1:{layout.port('milvus')}", world.settings.stores.namespace)


class World:
    """Frames are sent to it and counted in it; whatever works on it in between is somebody else."""

    def __init__(self, layout: Layout, directory: Path, seed: int, services: dict[str, Any] | None = None) -> None:
        self._random = random.Random(seed)
        name = f"faults_{secrets.token_hex(4)}"
        self.topic = name
        self.settings = Settings(
            home=directory / name,
            profile="full",
            stores=StoreSettings(namespace=name),
            stack=StackSettings(first_port=layout.first_port, data=layout.data, cache=layout.cache),
            kafka=KafkaSettings(topic=name, group=name, session_seconds=6.0),
            batch=BatchSettings(frames=4, bulk_frames=4, seconds=0.3),
            decode=DecodeSettings(workers=1),
            **(services or {}),
        )
        self._connection = find_kafka(self.settings)
        create_topic(self._connection, self.topic, _PARTITIONS)
        self._plans = iter(plan_night(seed, preset="quiet", fields=1, references=_REFERENCES, frames=2_000,
                                      anomaly_share=0.0, shape=(_SIDE, _SIDE)))  # fmt: skip
        self._sent: list[Outgoing] = []
        # Place of every message, and the id that its content must have; good ones are frames.
        self.places: dict[SourcePosition, str] = {}
        self.good: set[str] = set()
        self.bad: set[str] = set()

    def environment(self) -> dict[str, str]:
        """What makes a command find the services and this lake in them."""
        stack = self.settings.stack
        return {
            "ODDFRAME_PROFILE": "full",
            "ODDFRAME_STORES__NAMESPACE": self.settings.stores.namespace,
            "ODDFRAME_STACK__FIRST_PORT": str(stack.first_port),
            "ODDFRAME_STACK__DATA": str(stack.data),
            "ODDFRAME_KAFKA__TOPIC": self.topic,
        }

    def renew_group(self) -> None:
        """A group of its own for the next reader: it need not wait until a killed one is missed."""
        kafka = self.settings.kafka.model_copy(update={"group": f"{self.topic}-{secrets.token_hex(3)}"})
        self.settings = self.settings.model_copy(update={"kafka": kafka})

    def add_references(self) -> None:
        """The references that frames are compared with."""
        directory = self.settings.home / "references"
        directory.mkdir(parents=True)
        paths = []
        for _ in range(_REFERENCES):
            plan = next(self._plans)
            paths.append(directory / plan.name)
            paths[-1].write_bytes(to_fits_bytes(*render_exposure(plan)))
        with open_lake(self.settings) as lake:
            add_references(lake, paths)

    def send(self, frames: int, *, shuffle: bool = False) -> None:
        """New frames, one of them odd; also one sent twice, one in an envelope and one that is none."""
        messages = [self._make_frame(number, odd=number == 1) for number in range(frames)]
        cut = messages[0].value[:4000] + secrets.token_bytes(8)
        garbage = secrets.token_bytes(64)
        self.bad |= {sha256(cut).hexdigest(), sha256(garbage).hexdigest()}
        messages += [write_raw(cut, "cut.fits"), Outgoing(garbage), messages[0]]
        self.deliver(self._random.sample(messages, len(messages)) if shuffle else messages)

    def replay(self, *, shuffle: bool) -> None:
        """Everything that was ever sent, sent once more."""
        self.deliver(self._random.sample(self._sent, len(self._sent)) if shuffle else list(self._sent))

    def deliver(self, messages: list[Outgoing]) -> None:
        """Send, and note where each came to stand."""
        ids = {str(number): self._id_of(message) for number, message in enumerate(messages)}
        producer = FrameProducer(
            self._connection, self.topic, None, lambda name, place: self.places.update({place: ids[name]})
        )
        for number, message in enumerate(messages):
            producer.send(message, str(number))
        producer.flush()
        producer.close()
        self._sent += [message for message in messages if message not in self._sent]

    def wait_delivered(self, seconds: float) -> bool:
        """Whether the lake holds every message within so many seconds."""
        tables, deadline = open_tables(self.settings), time.monotonic() + seconds
        try:
            while time.monotonic() < deadline:
                held = tables.positions("deliveries")
                if all(held.holds(place) for place in self.places):
                    return True
                time.sleep(0.2)
            return False
        finally:
            tables.close()

    def assess(self) -> Damage:
        """Compare the lake with the truth, and with itself."""
        lost, doubled = self._count()
        with open_lake(self.settings) as lake:
            checks = verify_lake(lake)
        for check in checks:
            if not check.agrees:
                sys.stderr.write(f"    verify: {check.name}: {check.differences[:3]}\n")
        return Damage(lost, doubled, count_wrong(checks))

    def _count(self) -> tuple[int, int]:
        tables, vectors = open_tables(self.settings), open_vectors(self.settings)
        try:
            deliveries = tables.scan("deliveries", where={"purpose": ["ingest"]}).to_pylist()
            verdicts = tables.scan("verdicts", ["frame_id", "embedding", "embedding_version"]).to_pylist()
            frames = Counter(tables.scan("frames", ["frame_id"]).column("frame_id").to_pylist())
            jailed = Counter(tables.scan("quarantine", ["frame_id"]).column("frame_id").to_pylist())
            held = vectors.contents(VectorSpec("pixels", next(v["embedding_version"] for v in verdicts
                                                              if v["embedding"] == "pixels"), 1024))  # fmt: skip
        finally:
            tables.close()
            vectors.close()
        there = Counter((SourcePosition(d["source_partition"], d["source_offset"]), d["frame_id"]) for d in deliveries)
        judged = Counter(v["frame_id"] for v in verdicts)
        lost = (
            sum(not there[place, frame_id] for place, frame_id in self.places.items())
            + len(self.good - frames.keys())
            + len(self.bad - jailed.keys())
            + len((self.good | self.bad) - judged.keys())
            + len(self.good - held.frames)
        )
        doubled = sum(n - 1 for counts in (there, frames, judged, jailed) for n in counts.values()) + len(held.doubled)
        firsts = Counter(d["frame_id"] for d in deliveries if d["outcome"] == "new")
        # Exactly one message brought each content; anything else would be counted wrongly in years of results.
        doubled += sum(abs(firsts[frame_id] - 1) for frame_id in self.good & frames.keys())
        return lost, doubled

    def _make_frame(self, number: int, *, odd: bool) -> Outgoing:
        plan = self._next_plan()
        pixels, header = render_exposure(plan)
        if odd:
            pixels = pixels.copy()
            pixels[30:42, 40:52] = 60_000
        content = to_fits_bytes(pixels, header)
        self.good.add(sha256(content).hexdigest())
        return (write_envelope if number == 2 else write_raw)(content, plan.name)

    def _next_plan(self) -> Any:
        return next(self._plans)

    def _id_of(self, message: Outgoing) -> str:
        known = dict(message.headers).get("oddframe-sha256")
        return known.decode() if known else sha256(message.value).hexdigest()
