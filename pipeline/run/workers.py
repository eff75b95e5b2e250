"""Worker processes that read hostile bytes: each frame has a time limit and a worker that can be killed.

A worker that dies or runs over takes only its own frame with it; the frame is then unreadable, with the reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import resource
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from pebble import ProcessExpired, ProcessPool

from pipeline.errors import TransientError
from pipeline.ports import RawFrame
from pipeline.run.prepared import Prepared, PreparePlan, Unreadable

# Restarting a worker now and then bounds what a leak in a C library can hold.
_FRAMES_PER_WORKER = 2_000
# From malloc.h of glibc; other C libraries lack `mallopt`, and then nothing is set.
_MALLOC_TRIM_THRESHOLD, _MALLOC_MMAP_THRESHOLD, _KEPT_BYTES = -1, -3, 64 * 2**20
_PRELOADED = ["pipeline.run.prepare", "astropy.io.fits", "astropy.wcs", "astropy_healpix", "scipy.ndimage", "sep"]


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
            max_tasks=_FRAMES_PER_WORKER,
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

    def submit(self, raw: RawFrame, place: Path, plan: PreparePlan | None = None) -> PendingFrame:
        """Queue one frame; `place` is where its bytes are kept."""
        chosen = plan or self._plan
        future = self._pool.schedule(_work, args=[place, raw.name, raw.frame_id, chosen], timeout=chosen.limits.seconds)
        return PendingFrame(raw, lambda: _wait(future, chosen.limits.seconds))


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
    _keep_buffers()


def _keep_buffers() -> None:
    """Let malloc keep what a frame's arrays took: given back, every page is faulted in anew for the next frame."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MALLOC_MMAP_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_MALLOC_TRIM_THRESHOLD, _KEPT_BYTES)


def _limit_memory(limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
