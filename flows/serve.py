"""Runs the deployments of `deploy/prefect.yaml`, for `oddframe flows serve`: `python -m flows.serve`."""

from __future__ import annotations

import asyncio
import signal
import sys

from prefect.runner import Runner

from flows.deployments import build_deployments
from flows.lifeline import end_with_parent

READY = "ready"


def main() -> None:
    """Register the deployments, say so on standard output, and run them until standard input closes."""
    end_with_parent(signal.SIGINT)
    # One run at a time: the embedded stores have one writer. Schedules are not paused on shutdown, or a restart could
    # not tell them from those that a person paused; registering anew drops the runs that fell due in between.
    runner = Runner(name="oddframe", limit=1, pause_on_shutdown=False)
    for deployment in build_deployments():
        runner.add_deployment(deployment)
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()
    try:
        asyncio.run(runner.start())
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
