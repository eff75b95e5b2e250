"""Child processes for tests that kill or compete: forked from a clean server process that has the libraries loaded."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

_PRELOADED = [
    "pipeline.wiring",
    "pipeline.store.tables_iceberg",
    "pipeline.store.vectors_milvus",
    "pipeline.run.ingest",
]
# Workers of the pipeline are forked from the same server: their libraries belong to it too.
_WORKERS = ["pipeline.run.prepare", "astropy.io.fits", "astropy.wcs", "astropy_healpix", "scipy.ndimage", "sep"]
_LIMIT_S = 120


def start(function: Callable[..., Any], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """Run a function of a test module in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*_PRELOADED, *_WORKERS])
    child = context.Process(target=function, args=arguments)
    child.start()
    return child


def finish(child: multiprocessing.process.BaseProcess) -> int:
    """Wait for it; the exit code, negative for a signal."""
    child.join(_LIMIT_S)
    if child.exitcode is None:
        child.kill()
        child.join()
        raise AssertionError(f"the child did not end within {_LIMIT_S} s")
    return child.exitcode


def run(function: Callable[..., Any], *arguments: Any) -> int:
    """Run a function to its end in a process of its own; the exit code."""
    return finish(start(function, *arguments))
