"""Child processes for tests that kill or compete: forked from a server process that has the libraries loaded.

A server of our own and not that of `multiprocessing`: the workers of the pipeline are forked from that one, under a
memory limit that libraries they do not need would count against.
"""

from __future__ import annotations

import atexit
import importlib
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from functools import cache
from typing import IO, Any

MARK = "ODDFRAME_TEST_CHILD"
"""Set where a child runs."""

_PRELOADED = [
    *("pipeline.wiring", "pipeline.store.tables_iceberg", "pipeline.store.milvus_lite", "pipeline.run.ingest"),
    *("pipeline.streams", "pipeline.store.catalog_rest", "pipeline.store.milvus_server"),
    *("pipeline.run.prepare", "pipeline.run.verify", "astropy.io.fits", "astropy.wcs", "astropy_healpix", "sep"),
]


def start(function: Callable[..., Any], *arguments: Any) -> int:
    """Run a function of a test module in a process of its own; returns the process id."""
    return int(_ask("start", function, arguments))


def finish(process_id: int) -> int:
    """Wait for it; the exit code, negative for a signal."""
    return int(_ask("finish", process_id))


def run(function: Callable[..., Any], *arguments: Any) -> int:
    """Run a function to its end in a process of its own; the exit code."""
    return finish(start(function, *arguments))


def _ask(*request: Any) -> Any:
    server = _open_server()
    assert server.stdin is not None
    assert server.stdout is not None
    pickle.dump(request, server.stdin)
    server.stdin.flush()
    return pickle.load(server.stdout)  # noqa: S301 - our own process


@cache
def _open_server() -> subprocess.Popen[bytes]:
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.children"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, MARK: "yes", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    atexit.register(server.communicate)
    return server


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    for name in _PRELOADED:
        importlib.import_module(name)
    while True:
        try:
            action, *rest = pickle.load(requests)  # noqa: S301 - our own process
        except EOFError:
            return
        if action == "start":
            answer = os.fork() or _end_with(*rest)
        else:
            answer = os.waitstatus_to_exitcode(os.waitpid(rest[0], 0)[1])
        pickle.dump(answer, answers)
        answers.flush()


def _end_with(function: Callable[..., Any], arguments: tuple[Any, ...]) -> int:
    code = 0
    try:
        # What a child prints must not get between the answers.
        os.dup2(2, 1)
        function(*arguments)
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:  # noqa: BLE001 - the test sees the exit code
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve(os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"))
