"""Go on when a service was away: close everything, wait, open it anew, as a restart would."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from pipeline.errors import TransientError
from pipeline.run.consume import Consumer
from pipeline.run.report import Report

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_LOOK_SECONDS = 0.2


def follow(
    open_consumer: Callable[[], AbstractContextManager[Consumer]],
    stopped: Callable[[], bool],
    say: Callable[[str], None],
) -> Iterator[Report]:
    """Consume until told to stop, or until nothing is left for one that reads once.

    Args:
        open_consumer: opens stores and source; called again after each failure.
        stopped: asked several times a second.
        say: told of each failure, in a line.
    """
    pause = _FIRST_PAUSE
    while not stopped():
        try:
            with open_consumer() as consumer:
                for report in consumer.consume(stopped):
                    pause = _FIRST_PAUSE
                    yield report
                return
        except TransientError as error:
            say(f"{error}; going on in {pause:g} s")
        _sleep(pause, stopped)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _sleep(seconds: float, stopped: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not stopped() and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
