"""One, two and four readers of one topic with four partitions, into the same tables: what sharing costs and gives.

Frames are 128 x 128 pixels and every reader decodes in one process, so that two cores are not full with one reader.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.full import make_lake, open_services
from bench.machine import describe_machine
from bench.soak import Frames, send_at_once
from pipeline.parts import open_tables
from pipeline.sections import DecodeSettings
from pipeline.settings import Settings
from tests import children
from tests.faults.workers import read_on

FRAMES, READERS = 6_000, (1, 2, 4)


def run(settings: Settings, readers: int, frames: int, references: int) -> float:
    """Frames a second, from the first commit to the last."""
    started = [children.start(read_on, settings) for _ in range(readers)]
    with closing(open_tables(settings)) as tables:
        first = seen = 0.0
        begun = 0
        while begun < frames:
            count = tables.positions("deliveries").count() - references
            if count > begun:
                seen = time.perf_counter()
                if not first:
                    first, skipped = seen, count
                begun = count
            time.sleep(0.05)
    for child in started:
        os.kill(child, signal.SIGTERM)
    for child in started:
        children.finish(child)
    return (frames - skipped) / (seen - first)


def measure() -> dict[str, Any]:
    """The rate of each number of readers, and as a ratio to one."""
    rates: dict[int, float] = {}
    with open_services() as (layout, data):
        frames = Frames(Path(data) / "frames")
        for readers in READERS:
            settings = make_lake(layout, data, frames.references)
            settings = settings.model_copy(update={"decode": DecodeSettings(workers=1)})
            send_at_once(settings, frames, FRAMES)
            rates[readers] = run(settings, readers, FRAMES, len(frames.references))
    return {
        "machine": describe_machine(),
        "frames": FRAMES,
        "partitions": 4,
        "frames_per_s": rates,
        "ratio_to_one": {readers: rate / rates[1] for readers, rate in rates.items()},
    }
