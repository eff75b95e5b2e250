"""What Ctrl-C does, in the test's own process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer


@contextmanager
def interrupt_after(seconds: float) -> Iterator[None]:
    """Send this process the signal of Ctrl-C in the middle of the block, to Python's own handler.

    A command that an earlier test ran here may have left a handler of its own.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGINT, before)
