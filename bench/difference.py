"""CPU time and memory of one frame minus its references, stage by stage, beside a Fourier transform of its size."""

from __future__ import annotations

import cProfile
import json
import pstats
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import fft

from bench.machine import describe_machine
from pipeline.difference.learn import Learnt, learn
from pipeline.difference.subtract import Exposure, expose
from pipeline.embed.residual import compare
from pipeline.simulate import plan_night, render_exposure

SIZES = {"512": (512, 12, 10), "4096": (4096, 5, 2)}
"""Side in pixels, references, frames."""

_ROUNDS = 5
_OURS = "pipeline/"
_LEAST_SHARE = 0.01


def measure() -> dict[str, Any]:
    """Every size in a process of its own, with one thread: CPU seconds are those of one core."""
    sizes: dict[str, Any] = {}
    for size in SIZES:
        answer = subprocess.run(
            [sys.executable, "-m", "bench.difference", size],
            check=True, stdout=subprocess.PIPE, text=True, env=_limit_threads(),
        )  # fmt: skip
        sizes[size] = json.loads(answer.stdout)
    return {"machine": describe_machine(), "sizes": sizes}


def _limit_threads() -> dict[str, str]:
    import os  # noqa: PLC0415 - the environment is read when it is asked for

    return os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def measure_size(side: int, references: int, frames: int) -> dict[str, Any]:
    """Learn from references, compare frames, and time a forward and inverse transform in between."""
    exposures, science = _draw(side, references, frames)
    started = time.process_time()
    learnt = learn(exposures, [None] * len(exposures))
    learning = time.process_time() - started
    exposures.clear()
    before = _peak_mib()
    _compare(science[0], learnt)
    memory = _peak_mib() - before
    costs, pairs, halves = [], [], []
    for _ in range(_ROUNDS if side < 1024 else 1):
        pairs += _time(lambda: _transform(side), 3)
        halves += _time(lambda: _transform_real(side), 3)
        costs += [_time(lambda pixels=pixels: _compare(pixels, learnt), 1)[0] for pixels in science]
    frame, pair = float(np.median(costs)), float(np.median(pairs))
    return {
        "frame_cpu_ms": round(1e3 * frame, 1),
        "fft_pair_cpu_ms": round(1e3 * pair, 2),
        "fft_pairs_per_frame": round(frame / pair, 1),
        "float32_rfft_pair_cpu_ms": round(1e3 * float(np.median(halves)), 2),
        "learn_cpu_s_per_reference": round(learning / references, 3),
        "peak_mib_before_first_frame": round(before),
        "growth_mib_of_first_frame": round(memory),
        "stages_cpu_ms": _profile(science, learnt),
    }


def _draw(side: int, references: int, frames: int) -> tuple[list[Exposure], list[np.ndarray]]:
    plans = plan_night(
        7, preset="hard", fields=1, references=references, frames=frames, anomaly_share=0.0, shape=(side, side)
    )
    drawn = [render_exposure(plan)[0].astype(np.float32) for plan in plans]
    return [_expose(pixels) for pixels in drawn[:references]], drawn[references:]


def _expose(pixels: np.ndarray) -> Exposure:
    return expose(pixels, np.ones(pixels.shape, dtype=bool), 60_000.0)


def _compare(pixels: np.ndarray, learnt: Learnt) -> None:
    found = compare(_expose(pixels), learnt, None)
    if isinstance(found, str):
        raise TypeError(f"a frame was not compared: {found}")


def _transform(side: int) -> None:
    """The yardstick: an image as NumPy makes it, forward and back."""
    fft.ifft2(fft.fft2(np.ones((side, side))))


def _transform_real(side: int) -> None:
    """The same as it is done here, in single precision and for real images alone."""
    image = np.ones((side, side), dtype=np.float32)
    fft.irfft2(fft.rfft2(image), image.shape)


def _time(work: Callable[[], None], times: int) -> list[float]:
    taken = []
    for _ in range(times):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return taken


def _profile(science: Sequence[np.ndarray], learnt: Learnt) -> dict[str, float]:
    """Milliseconds a frame in each of our functions and all that they call, dearest first; stages hold one another."""
    profile = cProfile.Profile(time.process_time)
    profile.enable()
    for pixels in science:
        _compare(pixels, learnt)
    profile.disable()
    found = {
        f"{file.rsplit('/', 1)[1].removesuffix('.py')}.{name}": total / len(science)
        for (file, _, name), (_, _, _, total, _) in pstats.Stats(profile).stats.items()  # type: ignore[attr-defined]
        if _OURS in file and not name.startswith("<")
    }
    whole = max(found.values())
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return {name: round(1e3 * seconds, 1) for name, seconds in ordered if seconds > _LEAST_SHARE * whole}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(json.dumps(measure_size(*SIZES[sys.argv[1]])))
