"""CPU time and memory of one frame minus its references, stage by stage, beside a Fourier transform of its size."""

from __future__ import annotations

import cProfile
import json
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import fft

from bench.machine import describe_machine
from pipeline.difference.artefact import from_bytes, to_bytes
from pipeline.difference.learn import Learnt, learn
from pipeline.difference.subtract import Exposure, expose
from pipeline.embed.residual import compare
from pipeline.run.study import allocate_where_it_fits
from pipeline.simulate import plan_night, render_exposure

SIZES = {"512": (512, 12, 10), "4096": (4096, 3, 2)}
"""Side in pixels, references, frames."""

_MODEL = "model"
_ROUNDS = 5
_OURS = "pipeline/"
_LEAST_SHARE = 0.01


def measure() -> dict[str, Any]:
    """Every step of every size in a process of its own, with one thread: CPU seconds are those of one core."""
    sizes: dict[str, Any] = {}
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            sizes[size] = {}
            for step in STEPS:
                answer = subprocess.run(
                    [sys.executable, "-m", "bench.difference", step, size, folder],
                    check=True, stdout=subprocess.PIPE, text=True, env=_limit_threads(),
                )  # fmt: skip
                sizes[size] |= json.loads(answer.stdout)
    return {"machine": describe_machine(), "sizes": sizes}


def _limit_threads() -> dict[str, str]:
    import os  # noqa: PLC0415 - the environment is read when it is asked for

    return os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def measure_learning(size: str, folder: Path) -> dict[str, Any]:
    """Learn from references; write the model and the frames that will be compared with it."""
    side, references, frames = SIZES[size]
    plans = plan_night(
        7, preset="hard", fields=1, references=references, frames=frames, anomaly_share=0.0, shape=(side, side)
    )
    exposures = []
    for number, plan in enumerate(plans):
        pixels = render_exposure(plan)[0].astype(np.float32)
        if number < references:
            exposures.append(_put_where_it_fits(_expose(pixels)))
        else:
            np.save(folder / f"{number:03}.npy", pixels)
    started = time.process_time()
    learnt = learn(exposures, [None] * references, allocate_where_it_fits)
    taken = time.process_time() - started
    (folder / _MODEL).write_bytes(to_bytes(learnt))
    return {"learn_cpu_s_per_reference": round(taken / references, 3), "peak_mib_of_learning": round(_peak_mib())}


def measure_memory(size: str, folder: Path) -> dict[str, Any]:
    """Peak memory of a process that has read a model and one frame, before and after it compared them."""
    del size
    learnt = _read_model(folder)
    exposure = _expose(np.load(_list_frames(folder)[0]))
    before = _peak_mib()
    found = compare(exposure, learnt, None)
    after = _peak_mib()
    # Whoever compares holds what was found.
    if isinstance(found, str):
        raise TypeError(f"a frame was not compared: {found}")
    return {"peak_mib_model_and_frame": round(before), "peak_mib_of_compare": round(after)}


def measure_time(size: str, folder: Path) -> dict[str, Any]:
    """Compare frames, and time a forward and inverse transform in between."""
    side = SIZES[size][0]
    learnt, science = _read_model(folder), [np.load(place) for place in _list_frames(folder)]
    # What is kept from frame to frame is made for the first.
    _compare(science[0], learnt)
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
        "stages_cpu_ms": _profile(science, learnt),
    }


STEPS = {"learn": measure_learning, "memory": measure_memory, "time": measure_time}


def _read_model(folder: Path) -> Learnt:
    return from_bytes((folder / _MODEL).read_bytes())


def _list_frames(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.npy"))


def _put_where_it_fits(exposure: Exposure) -> Exposure:
    """Large frames in files, as when the references of a field are studied."""
    light = allocate_where_it_fits(exposure.light.shape, np.float32)
    usable = allocate_where_it_fits(exposure.usable.shape, np.bool_)
    light[...], usable[...] = exposure.light, exposure.usable
    return replace(exposure, light=light, usable=usable)


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
    print(json.dumps(STEPS[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))))
