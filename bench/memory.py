"""Peak memory of the committing process and its workers while 5,000 frames pass."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import psutil

from bench.frames import write_frames
from bench.machine import describe_machine
from pipeline.run.batch import IngestRequest, Purpose
from pipeline.run.ingest import Ingestor
from pipeline.settings import load_settings
from pipeline.wiring import open_lake

CHECKPOINTS = (500, 1_000, 2_000, 5_000)


def measure() -> dict[str, Any]:
    """Resident memory (MiB) of this process and of it with its workers, highest seen up to each checkpoint."""
    peaks: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        references, frames = write_frames(Path(folder), 100, CHECKPOINTS[-1])
        with open_lake(load_settings(Path(folder) / "home")) as lake:
            with Ingestor(lake, IngestRequest(Purpose.REFERENCE)) as ingestor:
                list(ingestor.ingest(references))
            with Ingestor(lake, IngestRequest()) as ingestor:
                own = family = 0.0
                for done, _ in enumerate(ingestor.ingest(frames), 1):
                    if done % 50 == 0:
                        a, b = _resident()
                        own, family = max(own, a), max(family, b)
                    if done in CHECKPOINTS:
                        peaks[str(done)] = {"main_mib": round(own), "with_workers_mib": round(family)}
    first, last = peaks[str(CHECKPOINTS[0])], peaks[str(CHECKPOINTS[-1])]
    return {
        "machine": describe_machine(),
        "peak_after_frames": peaks,
        "growth_500_to_5000": last["with_workers_mib"] / first["with_workers_mib"],
    }


def _resident() -> tuple[float, float]:
    process = psutil.Process()
    own = process.memory_info().rss
    children = sum(child.memory_info().rss for child in process.children(recursive=True) if child.is_running())
    return own / 2**20, (own + children) / 2**20
