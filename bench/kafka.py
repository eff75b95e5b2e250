"""Frames from a topic to committed verdicts, against kafka-python alone on the same topic and against one at a time.

The clock of ours runs from the first verdict to the last and counts the frames in between: joining the group and
starting the workers are left out, as they are for kafka-python, whose clock starts with its first message.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaConsumer

from bench.frames import write_frames
from bench.full import make_lake, open_services
from bench.history import preload
from bench.machine import describe_machine, hold_memory
from pipeline.parts import find_kafka
from pipeline.run.batch import IngestRequest
from pipeline.run.verify import verify_lake
from pipeline.sections import BatchSettings
from pipeline.settings import Settings
from pipeline.simulate import plan_night, render_exposure, to_fits_bytes
from pipeline.source.producer import FrameProducer, ProducerRules, feed_topic
from pipeline.streams import open_consumer
from pipeline.wiring import open_lake

REFERENCES, FRAMES, LARGE, ONE_BY_ONE = 200, 6_000, 64, 40
HISTORY_FRAMES, HISTORY_SNAPSHOTS = 100_000, 2_000
_SINGLE = BatchSettings(frames=1, bulk_frames=1, seconds=0.001)


def send(settings: Settings, frames: list[Path], claims: Path | None = None) -> None:
    """Frames to the topic of a lake; as claim checks, if there is a directory for them."""
    rules = ProducerRules(claim_directory=claims, claim_above=2**20 if claims else 2**62)
    producer = FrameProducer(find_kafka(settings), settings.kafka.topic, rules)
    feed_topic(frames, producer)
    producer.close()


def run_alone(settings: Settings, messages: int, claimed: list[Path]) -> float:
    """Seconds for kafka-python to hand over every message of the topic, and to read and hash the files they claim."""
    consumer = KafkaConsumer(
        settings.kafka.topic, auto_offset_reset="earliest", max_partition_fetch_bytes=8 * 2**20,
        fetch_max_bytes=48 * 2**20, **find_kafka(settings).options(),
    )  # fmt: skip
    seen, start = 0, 0.0
    while seen < messages:
        for records in consumer.poll(timeout_ms=500).values():
            start = start or time.perf_counter()
            seen += len(records)
    for path in claimed:
        # Whoever redeems a claim check compares the hash.
        hashlib.sha256(path.read_bytes()).hexdigest()
    seconds = time.perf_counter() - start
    consumer.close()
    return seconds


def run_oddframe(settings: Settings, messages: int, *, history: bool = False) -> dict[str, float]:
    """Frames a second from the first verdict to the last, and what the start took."""
    began = time.perf_counter()
    moments: list[float] = []
    with open_consumer(settings, settings.kafka.topic, IngestRequest(record_duplicates=True)) as consumer:
        moments.extend(time.perf_counter() for _ in consumer.consume(lambda: len(moments) >= messages))
    # Verdicts come in batches, at one moment each; the first batch is the start.
    first = moments[0]
    counted = sum(moment - first > 1.0 / messages for moment in moments)
    with open_lake(settings) as lake:
        # Of a history that never was no bytes are kept.
        wrong = [c.name for c in verify_lake(lake) if not c.agrees and not (c.name.startswith("originals") and history)]
        if wrong:
            raise SystemExit(f"verify found differences ({'; '.join(wrong)}): the figure would be worthless")
    return {"frames_per_s": counted / (moments[-1] - first), "start_s": first - began}


def write_large(directory: Path, count: int) -> tuple[list[Path], list[Path]]:
    """4096 x 4096 frames of one field, 33 MB each: five references, the others with noise of their own."""
    directory.mkdir(parents=True)
    plans = plan_night(3, preset="quiet", fields=1, references=5, frames=2, anomaly_share=0.0, shape=(4096, 4096))
    generator, paths = np.random.default_rng(3), []
    drawn = [render_exposure(plan) for plan in plans]
    for number in range(5 + count):
        pixels, header = drawn[number] if number < 5 else drawn[5 + number % 2]
        noise = np.tile(generator.integers(0, 8, (256, 4096), dtype=np.uint16), (16, 1))
        path = directory / f"large-{number:05d}.fits"
        path.write_bytes(to_fits_bytes(np.minimum(pixels, 60_000) + noise, header))
        paths.append(path)
    return paths[:5], paths[5:]


def measure() -> dict[str, Any]:
    """Small frames, large ones, one at a time, and with a history."""
    with open_services() as (layout, data), hold_memory(data) as memory:
        references, frames = write_frames(data / "small", REFERENCES, FRAMES)
        size = frames[0].stat().st_size
        empty = make_lake(layout, data, references)
        send(empty, frames)
        memory.claim()
        alone = FRAMES / run_alone(empty, FRAMES, [])
        memory.claim()
        ours = run_oddframe(empty, FRAMES)
        single = make_lake(layout, data, references, _SINGLE)
        send(single, frames[:ONE_BY_ONE])
        memory.claim()
        one_by_one = run_oddframe(single, ONE_BY_ONE)
        full = make_lake(layout, data, references)
        preload(full, HISTORY_FRAMES, HISTORY_SNAPSHOTS)
        send(full, frames)
        memory.claim()
        history = run_oddframe(full, FRAMES, history=True)
        few, large = write_large(data / "large", LARGE)
        claimed = make_lake(layout, data, few)
        send(claimed, large, claimed.home / "claims")
        parked = sorted((claimed.home / "claims").glob("*/*"))
        memory.claim()
        alone_large = LARGE / run_alone(claimed, LARGE, parked)
        memory.claim()
        ours_large = run_oddframe(claimed, LARGE)
        return {
            "machine": describe_machine(),
            "load_before": os.getloadavg()[0],
            "small": _tell(size, ours, alone) | {"frames": FRAMES},
            "large": _tell(large[0].stat().st_size, ours_large, alone_large) | {"frames": LARGE},
            "one_by_one_frames_per_s": one_by_one["frames_per_s"],
            "ratio_to_one_by_one": ours["frames_per_s"] / one_by_one["frames_per_s"],
            "history": {"frames": HISTORY_FRAMES, "snapshots": HISTORY_SNAPSHOTS, **history},
            "ratio_of_history_to_empty": history["frames_per_s"] / ours["frames_per_s"],
        }


def _tell(size: int, ours: dict[str, float], alone: float) -> dict[str, float]:
    return {
        **ours,
        "mb_per_s": ours["frames_per_s"] * size / 1e6,
        "kafka_python_frames_per_s": alone,
        "kafka_python_mb_per_s": alone * size / 1e6,
        "ratio_to_kafka_python": ours["frames_per_s"] / alone,
    }
