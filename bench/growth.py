"""Search time per frame while the reference repository grows, with the prefilter on.

References are spread over fields of 100 each, as a survey's are; a query is prefiltered to its own field.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import describe_machine
from pipeline.parts import open_vectors
from pipeline.ports import Prefilter, VectorEntity, VectorSpec
from pipeline.settings import load_settings

SIZES = (1_000, 10_000, 50_000)
FIELD, QUERIES = 100, 64
SPEC = VectorSpec("bench", "1", 1024)


def measure() -> dict[str, Any]:
    """Milliseconds a query: one at a time through Milvus, and a batch of 64 of one field."""
    generator = np.random.default_rng(3)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        vectors = open_vectors(load_settings(Path(folder)))
        try:
            held = 0
            for size in SIZES:
                for start in range(held, size, 1_000):
                    vectors.put_references(SPEC, [_entity(i, generator) for i in range(start, start + 1_000)])
                held = size
                rows.append({"references": size, **_time(vectors, size, generator)})
        finally:
            vectors.close()
    return {
        "machine": describe_machine(),
        "dimension": SPEC.dimension,
        "references_per_field": FIELD,
        "sizes": rows,
        "growth_single": rows[-1]["single_ms"] / rows[0]["single_ms"],
        "growth_batch": rows[-1]["batch_ms"] / rows[0]["batch_ms"],
    }


def _time(vectors: Any, size: int, generator: np.random.Generator) -> dict[str, float]:
    fields = generator.integers(0, size // FIELD, 20)
    queries = _unit(generator.normal(size=(QUERIES, SPEC.dimension)))
    for field in fields[:2]:
        vectors.search(SPEC, queries[:1], _prefilter(int(field)), 5)
    single, batch = [], []
    for field in fields:
        start = time.perf_counter()
        vectors.search(SPEC, queries[:1], _prefilter(int(field)), 5)
        single.append(time.perf_counter() - start)
        start = time.perf_counter()
        vectors.search(SPEC, queries, _prefilter(int(field)), 5)
        batch.append((time.perf_counter() - start) / QUERIES)
    return {"single_ms": float(np.median(single)) * 1e3, "batch_ms": float(np.median(batch)) * 1e3}


def _entity(i: int, generator: np.random.Generator) -> VectorEntity:
    vector = _unit(generator.normal(size=(1, SPEC.dimension)))[0]
    return VectorEntity(f"{i:064x}", vector, "camera", "r", i // FIELD, 60.0, None)


def _prefilter(zone: int) -> Prefilter:
    return Prefilter("camera", "r", (zone,), 30.0, 120.0)


def _unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
