"""Worker processes that read hostile bytes: each frame has a time limit and a worker that can be killed.

A worker that dies or runs over takes only its own frame with it; the frame is then unreadable, with the reason.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pebble import ProcessExpired, ProcessPool

from pipeline.errors import TransientError
from pipeline.ports import OriginalStore, RawFrame
from pipeline.run.land import Landed, NotLanded, land_files
from pipeline.run.memory import keep_buffers
from pipeline.run.prepared import Prepared, PreparePlan, Unreadable

# Restarting a worker now and then bounds what a leak in a C library can hold.
_TASKS_PER_WORKER = 4_000
# Landing is short: a task of one file would cost as much again in passing it on.
_FILES_PER_TASK = 8
_PRELOADED = [
    "pipeline.run.prepare",
    "pipeline.run.land",
    "astropy.io.fits",
    "astropy.wcs",
    "astropy_healpix",
    "pipeline.run.compare",
    "scipy.ndimage",
    "sep",
]


@dataclass(frozen=True, slots=True)
class PendingFrame:
    """A frame a worker is busy with."""

    raw: RawFrame
    wait: Callable[[], Prepared | Unreadable]


class WorkerPool:
    """Start with `with`; workers are forked from a clean server process that has the libraries loaded."""

    def __init__(self, plan: PreparePlan, workers: int) -> None:
        self._plan = plan
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        self._pool = ProcessPool(
            max_workers=workers,
            max_tasks=_TASKS_PER_WORKER,
            initializer=_prepare_worker,
            initargs=(plan.limits.memory_bytes,),
            context=context,
        )

    def __enter__(self) -> Self:
        """The pool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the workers; what they were doing is dropped, nothing of it was committed."""
        self._pool.stop()
        self._pool.join()

    def change(self, plan: PreparePlan) -> None:
        """What is submitted from now on goes by another plan."""
        self._plan = plan

    def land(
        self, paths: Sequence[Path], originals: OriginalStore, max_bytes: int
    ) -> Callable[[], list[Landed | NotLanded]]:
        """Queue files to be read, hashed and kept; the function returned waits for them, in order.

        Raises:
            TransientError: (when waiting) a copy cannot be written, or a worker died.
        """
        whole = [path.absolute() for path in paths]
        groups = [whole[i : i + _FILES_PER_TASK] for i in range(0, len(whole), _FILES_PER_TASK)]
        futures = [self._pool.schedule(land_files, args=[group, originals, max_bytes]) for group in groups]
        return lambda: [landed for future in futures for landed in _wait_landed(future)]

    def submit(self, raw: RawFrame, place: Path) -> PendingFrame:
        """Queue one frame; `place` is where its bytes are kept."""
        plan, seconds = self._plan, self._plan.limits.seconds
        future = self._pool.schedule(_work, args=[place, raw.name, raw.frame_id, plan], timeout=seconds)
        return PendingFrame(raw, lambda: _wait(future, seconds))


def _wait_landed(future: Future[list[Landed | NotLanded]]) -> list[Landed | NotLanded]:
    try:
        return future.result()
    except ProcessExpired as error:
        raise TransientError(f"a worker process died while it read files (exit code {error.exitcode})") from error


def _work(place: Path, name: str, frame_id: str, plan: PreparePlan) -> Prepared | Unreadable:
    # Only workers decode: the process that commits never loads the decoder.
    from pipeline.run.prepare import prepare_frame  # noqa: PLC0415

    return prepare_frame(place, name, frame_id, plan)


def _wait(future: Future[Prepared | Unreadable], seconds: float) -> Prepared | Unreadable:
    try:
        return future.result()
    except (TimeoutError, FutureTimeoutError):
        return Unreadable("time_limit", f"decoding it took longer than {seconds:g} s")
    except ProcessExpired as error:
        return Unreadable("worker_died", f"the process decoding it died (exit code {error.exitcode})")
    except MemoryError:
        return Unreadable("too_large", "decoding it took more memory than the worker limit allows")
    except OSError as error:
        raise TransientError(f"a worker process cannot read the kept copy of a frame: {error}") from error
    except Exception as error:  # noqa: BLE001 - a fault of ours on one frame must not stop every run that meets it
        return Unreadable("fault", f"a fault in oddframe: {type(error).__name__}: {' '.join(str(error).split())[:200]}")


def _prepare_worker(memory_limit: int) -> None:
    _limit_memory(memory_limit)
    keep_buffers()


def _limit_memory(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
