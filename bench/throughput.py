"""Durable ingest-and-judge against bare loops and against one row and one vector at a time.

All run on the same files, one after the other, in this process; what is quoted is the ratio. There are two bare loops:
one flattens what the default embedding makes of a frame, which is as little as a bare loop can do for the same search,
the other flattens the frame as it is.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from bench.frames import write_frames
from bench.machine import describe_machine
from pipeline.embed.pixels import Pixels
from pipeline.run.batch import IngestRequest, Purpose
from pipeline.run.ingest import Ingestor
from pipeline.run.verify import count_wrong, verify_lake
from pipeline.settings import load_settings
from pipeline.wiring import open_lake

REFERENCES, FRAMES, ONE_BY_ONE, WHOLE = 200, 2_000, 40, 200
_VALID = np.ones((512, 512), dtype=bool)
_EMBEDDING = Pixels()


def run_bare(paths: list[Path], flatten: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> float:
    """Seconds to decode with astropy, flatten, normalise, add to FAISS and search it: nothing is stored."""
    index: Any = None
    start = time.perf_counter()
    for path in paths:
        vector = flatten(fits.getdata(path).astype(np.float32))[None]
        index = index or faiss.IndexFlatL2(vector.shape[1])
        index.add(vector)
        index.search(vector, 3)
    return time.perf_counter() - start


def flatten_embedded(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the default embedding does."""
    return _EMBEDDING.embed(pixels, _VALID)


def flatten_whole(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Every pixel, normalised."""
    flat = pixels.ravel()
    return flat / np.linalg.norm(flat)


def run_oddframe(home: Path, references: list[Path], frames: list[Path]) -> tuple[float, dict[str, int]]:
    """Seconds from files to committed verdicts, worker start excluded; statuses counted; the lake verified."""
    counts: dict[str, int] = {}
    with open_lake(load_settings(home)) as lake:
        with Ingestor(lake, IngestRequest(Purpose.REFERENCE)) as ingestor:
            list(ingestor.ingest(references))
        with Ingestor(lake, IngestRequest()) as ingestor:
            list(ingestor.ingest(frames[:16]))
            start = time.perf_counter()
            for report in ingestor.ingest(frames[16:]):
                counts[report["status"]] = counts.get(report["status"], 0) + 1
            seconds = time.perf_counter() - start
        if wrong := count_wrong(verify_lake(lake)):
            raise SystemExit(f"verify found {wrong} differences: the figure would be worthless")
    return seconds, counts


def run_one_by_one(home: Path, references: list[Path], frames: list[Path]) -> float:
    """Seconds for the demo's way on our stores: one row, one vector and one commit a frame."""
    with open_lake(load_settings(home)) as lake:
        with Ingestor(lake, IngestRequest(Purpose.REFERENCE)) as ingestor:
            list(ingestor.ingest(references))
        with Ingestor(lake, IngestRequest()) as ingestor:
            list(ingestor.ingest(frames[:2]))
            start = time.perf_counter()
            list(ingestor.ingest(frames[2:], batch=1))
            return time.perf_counter() - start


def measure() -> dict[str, Any]:
    """All three, as milliseconds a frame and as ratios."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        references, frames = write_frames(base, REFERENCES, FRAMES)
        size = frames[0].stat().st_size
        whole = run_bare(frames[:WHOLE], flatten_whole) / WHOLE
        bare = run_bare(frames[16:], flatten_embedded) / (FRAMES - 16)
        ours, counts = run_oddframe(base / "home", references, frames)
        ours /= FRAMES - 16
        single = run_one_by_one(base / "single", references, frames[: ONE_BY_ONE + 2]) / ONE_BY_ONE
    return {
        "machine": describe_machine(),
        "frames": FRAMES,
        "statuses": counts,
        "bare_ms": bare * 1e3,
        "bare_whole_frame_ms": whole * 1e3,
        "oddframe_ms": ours * 1e3,
        "one_by_one_ms": single * 1e3,
        "frames_per_s": 1 / ours,
        "mb_per_s": size / ours / 1e6,
        "ratio_to_bare": bare / ours,
        "ratio_to_bare_whole_frame": whole / ours,
        "ratio_to_one_by_one": single / ours,
    }
