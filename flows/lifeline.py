"""A child process that ends when its parent does, also when the parent is killed: it reads a pipe that never speaks."""

from __future__ import annotations

import os
import signal
import sys
import threading


def end_with_parent(number: signal.Signals) -> None:
    """Send this process a signal once its standard input is closed."""

    def wait() -> None:
        while os.read(descriptor, 4096):
            pass
        os.kill(os.getpid(), number)

    # A copy: nothing else in the process may read from it, and what it starts must not inherit it.
    descriptor = os.dup(sys.stdin.fileno())
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted
        os.dup2(nothing.fileno(), 0)
    threading.Thread(target=wait, name="lifeline", daemon=True).start()
