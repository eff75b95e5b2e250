"""Exposure to verdict: a 4096 x 4096 frame every three seconds, from its claim check to the committed verdict."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.full import make_lake, open_services
from bench.kafka import write_large
from bench.machine import describe_machine
from pipeline.parts import find_kafka
from pipeline.run.batch import IngestRequest
from pipeline.settings import Settings
from pipeline.source.producer import FrameProducer, ProducerRules
from pipeline.streams import open_consumer

MINUTES, CADENCE, DISTINCT = 10.0, 3.0, 8


class Camera(threading.Thread):
    """Sends a frame every few seconds, each with a content of its own, and remembers when its exposure ended."""

    def __init__(self, settings: Settings, frames: list[Path], count: int) -> None:
        super().__init__(daemon=True)
        self._settings, self._frames, self._count = settings, frames, count
        self.ended: dict[str, float] = {}

    def run(self) -> None:
        """Keep the cadence whatever the pipeline does."""
        settings = self._settings
        rules = ProducerRules(claim_directory=settings.home / "claims", claim_above=2**20)
        producer = FrameProducer(find_kafka(settings), settings.kafka.topic, rules)
        begin = time.monotonic()
        for number in range(self._count):
            time.sleep(max(0.0, begin + number * CADENCE - time.monotonic()))
            path = self._settings.home / f"exposure-{number:05d}.fits"
            shutil.copy(self._frames[number % len(self._frames)], path)
            with path.open("r+b") as file:
                # The last pixels of the image: another content, the same sky.
                file.seek(-2880 * 4, 2)
                file.write(number.to_bytes(8, "big"))
            self.ended[path.name] = time.monotonic()
            producer.send_file(path)
            producer.flush()
            path.unlink()
        producer.close()


def measure() -> dict[str, Any]:
    """Percentiles over ten minutes."""
    count = int(MINUTES * 60 / CADENCE)
    with open_services() as (layout, data):
        references, frames = write_large(data / "large", DISTINCT)
        settings = make_lake(layout, data, references)
        camera, seconds = Camera(settings, frames, count), list[float]()
        with open_consumer(settings, settings.kafka.topic, IngestRequest(record_duplicates=True)) as consumer:
            # The first frame waits for nothing that a night does not wait for.
            camera.start()
            reports = consumer.consume(lambda: len(seconds) >= count)
            seconds.extend(time.monotonic() - camera.ended[report["name"]] for report in reports)
        camera.join()
    p50, p95, p99 = np.percentile(seconds, [50, 95, 99])
    return {
        "machine": describe_machine(),
        "frames": count,
        "cadence_s": CADENCE,
        "batch_seconds": settings.batch.seconds,
        "p50_s": float(p50),
        "p95_s": float(p95),
        "p99_s": float(p99),
        "worst_s": max(seconds),
    }
