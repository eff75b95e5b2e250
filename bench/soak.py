"""Half an hour at 70 % of the highest rate: memory of our processes, lag, files and snapshots, with `maintain` beside.

Frames are 128 x 128 pixels: half an hour of larger ones does not fit on a small disk. The highest rate is measured
first, on the same frames.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.full import make_lake, open_services
from bench.kafka import run_oddframe
from bench.machine import describe_machine
from pipeline.clock import now_utc
from pipeline.parts import find_kafka, open_tables
from pipeline.run.batch import IngestRequest
from pipeline.settings import Settings
from pipeline.simulate import plan_night, render_exposure, to_fits_bytes
from pipeline.source.kafka_log import KafkaLog
from pipeline.source.messages import Outgoing, write_raw
from pipeline.source.producer import FrameProducer
from pipeline.store.maintenance_iceberg import IcebergMaintenance
from pipeline.streams import open_consumer

MINUTES, SHARE, TRIAL, SIDE, SAMPLE_SECONDS, MAINTAIN_SECONDS = 30.0, 0.7, 6_000, 128, 15.0, 300.0
_TABLES = ("frames", "detections", "verdicts", "deliveries")


class Frames:
    """Frames without end: a few exposures, each time with another content."""

    def __init__(self, directory: Path) -> None:
        plans = plan_night(9, preset="quiet", fields=1, references=20, frames=24, anomaly_share=0.0, shape=(SIDE, SIDE))
        drawn = [(plan, to_fits_bytes(*render_exposure(plan))) for plan in plans]
        directory.mkdir(parents=True)
        self.references = [directory / plan.name for plan, _ in drawn if plan.role == "reference"]
        for path, (_, content) in zip(self.references, drawn, strict=False):
            path.write_bytes(content)
        self._science = [content for plan, content in drawn if plan.role == "science"]
        self._number = 0

    def make(self) -> Outgoing:
        """The next one: its last pixels are its number."""
        self._number += 1
        content = bytearray(self._science[self._number % len(self._science)])
        content[-2880 * 2 : -2880 * 2 + 4] = self._number.to_bytes(4, "big")
        return write_raw(bytes(content), f"s{self._number:07d}.fits")


def feed(settings: Settings, frames: Frames, rate: float, seconds: float) -> int:
    """So many frames a second, for so long; returns how many."""
    producer = FrameProducer(find_kafka(settings), settings.kafka.topic)
    begin, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - begin) < seconds:
        while sent < rate * elapsed:
            producer.send(frames.make(), str(sent))
            sent += 1
        time.sleep(0.05)
    producer.flush()
    producer.close()
    return sent


class Watcher(threading.Thread):
    """Samples memory, lag and files; tidies the tables now and then, as the nightly flow would."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self._settings = settings
        self._stopped = threading.Event()
        self.samples: list[dict[str, float]] = []

    def run(self) -> None:
        """Until told to stop."""
        begin = tidied = time.monotonic()
        with (
            closing(open_tables(self._settings)) as tables,
            closing(KafkaLog(find_kafka(self._settings), self._settings.kafka.topic)) as log,
        ):
            while not self._stopped.wait(SAMPLE_SECONDS):
                standings = log.list_standings(tables.positions("deliveries"))
                raw = [tables.raw(name) for name in _TABLES]
                self.samples.append(
                    {
                        "at_s": time.monotonic() - begin,
                        "memory_mib": _measure_memory(),
                        "lag": sum(standing.lag for standing in standings),
                        "files": sum(_count_files(table) for table in raw),
                        "snapshots": sum(len(table.metadata.snapshots) for table in raw),
                    }
                )
                if time.monotonic() - tidied > MAINTAIN_SECONDS:
                    tidied = time.monotonic()
                    maintenance = IcebergMaintenance(tables)
                    for name in _TABLES:
                        maintenance.compact(name)
                        maintenance.expire(name, now_utc() - timedelta(seconds=MAINTAIN_SECONDS))

    def stop(self) -> None:
        """No more samples."""
        self._stopped.set()
        self.join()


def _count_files(table: Any) -> int:
    snapshot = table.current_snapshot()
    return int(snapshot.summary["total-data-files"]) if snapshot else 0


def _measure_memory() -> float:
    """Of this process and its workers, MiB; pages that are shared count once for each."""
    ourselves = psutil.Process()
    total = 0
    for process in (ourselves, *ourselves.children(recursive=True)):
        # The services are children of this process, too.
        if process == ourselves or "multiprocessing" in " ".join(process.cmdline()):
            total += process.memory_info().rss
    return total / 2**20


def measure() -> dict[str, Any]:
    """The highest rate, then half an hour at a share of it."""
    with open_services() as (layout, data):
        frames = Frames(data / "frames")
        trial = make_lake(layout, data, frames.references)
        send_at_once(trial, frames, TRIAL)
        highest = run_oddframe(trial, TRIAL)["frames_per_s"]
        settings, rate = make_lake(layout, data, frames.references), SHARE * highest
        watcher, sent, done = Watcher(settings), [0], [0]
        feeder = threading.Thread(target=lambda: sent.append(feed(settings, frames, rate, MINUTES * 60)), daemon=True)
        with open_consumer(settings, settings.kafka.topic, IngestRequest(record_duplicates=True)) as consumer:
            watcher.start()
            feeder.start()
            for _ in consumer.consume(lambda: not feeder.is_alive() and done[0] >= sent[-1]):
                done[0] += 1
        watcher.stop()
    return _tell(watcher.samples, highest, rate, done[0])


def send_at_once(settings: Settings, frames: Frames, count: int) -> None:
    """So many frames, as fast as they go."""
    producer = FrameProducer(find_kafka(settings), settings.kafka.topic)
    for number in range(count):
        producer.send(frames.make(), str(number))
    producer.flush()
    producer.close()


def _tell(samples: list[dict[str, float]], highest: float, rate: float, frames: int) -> dict[str, Any]:
    thirds = np.array_split(np.array([s["memory_mib"] for s in samples]), 3)
    return {
        "machine": describe_machine(),
        "minutes": MINUTES,
        "highest_frames_per_s": highest,
        "frames_per_s": rate,
        "frames": frames,
        "memory_mib_by_third": [float(np.median(third)) for third in thirds],
        "memory_ratio_last_to_middle_third": float(np.median(thirds[2]) / np.median(thirds[1])),
        "lag_worst": max(s["lag"] for s in samples),
        "lag_last": samples[-1]["lag"],
        "files_worst": max(s["files"] for s in samples),
        "files_last": samples[-1]["files"],
        "snapshots_worst": max(s["snapshots"] for s in samples),
        "samples": samples[:: max(1, len(samples) // 30)],
    }
