"""Frames to measure with: 512 x 512 uint16 star fields, rendered once and varied cheaply."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.simulate import plan_night, render_exposure, to_fits_bytes

_RENDERED = 24


def write_frames(directory: Path, references: int, frames: int, seed: int = 5) -> tuple[list[Path], list[Path]]:
    """Write reference and science frames of one field; every file has its own noise, so no two are equal.

    Every reference is an exposure of its own; science frames repeat a few exposures with fresh photon noise added,
    which costs a fraction of rendering and leaves them as far from the references as any other exposure.
    """
    plans = plan_night(
        seed, preset="quiet", fields=1, references=references, frames=_RENDERED, anomaly_share=0.0, shape=(512, 512)
    )
    drawn = {role: [render_exposure(plan) for plan in plans if plan.role == role] for role in ("reference", "science")}
    generator = np.random.default_rng(seed)
    return (
        _write(directory / "references", drawn["reference"], references, generator),
        _write(directory / "frames", drawn["science"], frames, generator),
    )


def _write(
    directory: Path, drawn: list[tuple[np.ndarray, object]], count: int, generator: np.random.Generator
) -> list[Path]:
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(count):
        pixels, header = drawn[i % len(drawn)]
        noise = generator.integers(0, 8, pixels.shape, dtype=np.uint16)
        path = directory / f"{i:06d}.fits"
        path.write_bytes(to_fits_bytes(np.minimum(pixels, 60_000) + noise, header))
        paths.append(path)
    return paths
