"""Runs the deployments of `deploy/prefect.yaml`, for `oddframe flows serve`: `python -m flows.serve`."""

from __future__ import annotations

import asyncio
import signal
import sys

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.runner import Runner
from prefect.states import Crashed

from flows.deployments import build_deployments
from flows.lifeline import end_with_parent

READY = "ready"
_ENDED = "`oddframe flows serve` ended while this ran; what was committed is kept, the next run goes on from there"


def settle_left_behind() -> None:
    """Say of runs that a stop or a crash cut short that they are over: this server serves one home, from one process.

    Without it they would be shown as running for ever.
    """
    unfinished = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    chosen = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=unfinished)))
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=chosen):
            client.set_flow_run_state(run.id, Crashed(message=_ENDED), force=True)


def main() -> None:
    """Register the deployments, say so on standard output, and run them until standard input closes."""
    end_with_parent(signal.SIGINT)
    settle_left_behind()
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
