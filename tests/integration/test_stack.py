"""The whole local stack through the command: up, killed, up again, down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from pipeline.errors import TransientError
from pipeline.store.milvus_server import open_server
from tests.ports import find_free_ports
from tests.stack import SPAN, require_stack

MOST_MIB = 6 * 1024
PASSWORD = "planted-Secret-4711"  # noqa: S105 - to be looked for
_OURSELVES = "from pipeline.cli.app import main; main()"
ENDED = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
SERVICES = ["kafka", "catalog", "milvus", "prefect", "presto", "worker"]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    require_stack()
    home = tmp_path_factory.mktemp("stack") / "home"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {
        "ODDFRAME_STACK__FIRST_PORT": str(find_free_ports(SPAN)),
        "ODDFRAME_STACK__DATA": str(home / "stack"),
        "ODDFRAME_STACK__PASSWORD": PASSWORD,
        "ODDFRAME_PROFILE": "full",
    }

    def run(*arguments: str) -> tuple[int, list[dict], str]:
        whole = [sys.executable, "-c", _OURSELVES, "stack", *arguments, "--home", str(home), "--json"]
        done = subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=400, check=False)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    run.environment, run.home = environment, home
    yield run
    run("down")


def use(command, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """The `oddframe` command in the environment of the stack."""
    whole = [sys.executable, "-c", _OURSELVES, *map(str, arguments), "--home", str(command.home)]
    return subprocess.run(
        whole, env=command.environment | more, capture_output=True, text=True, timeout=240, check=False
    )


def port_of(states: list[dict], service: str) -> int:
    return int(next(state["url"] for state in states if state["service"] == service).rpartition(":")[2])


def check_strangers_are_refused(command, states: list[dict]) -> None:
    prefect = f"http://127.0.0.1:{port_of(states, 'prefect')}/api"
    for login in (None, ("oddframe", "wrong"), ("", "")):
        answer = requests.post(f"{prefect}/deployments/filter", json={}, auth=login, timeout=30)
        assert answer.status_code == 401
    assert requests.post(f"{prefect}/deployments/filter", json={}, auth=("oddframe", PASSWORD), timeout=30).ok
    milvus = f"http://127.0.0.1:{port_of(states, 'milvus')}"
    for token in ("", "root:Milvus", "root:wrong", "nobody:nothing"):
        with pytest.raises(TransientError, match="no Milvus server answers"):
            open_server(milvus, token).specs()
    refused = use(command, "verify", ODDFRAME_MILVUS__TOKEN="root:wrong")  # noqa: S106 - a wrong one
    assert refused.returncode == 3
    assert len(refused.stderr.splitlines()) == 1
    refused = use(command, "flows", "notify", PREFECT_API_URL=prefect)
    assert refused.returncode in (2, 3)
    assert "fault" not in refused.stderr


def ask_prefect(prefect: str, path: str, body: dict) -> dict | list:
    """What Prefect's API answers; asked again while its database is busy with another writer."""
    deadline = time.monotonic() + 60
    while True:
        answer = requests.post(f"{prefect}{path}", json=body, auth=("oddframe", PASSWORD), timeout=30)
        if answer.status_code != 503 or time.monotonic() > deadline:
            answer.raise_for_status()
            return answer.json()
        time.sleep(1)


def check_an_event_starts_the_deployment(command, states: list[dict]) -> None:
    frames = sorted((Path(__file__).parents[2] / "sample_fits" / "night").rglob("*.fits"))[:3]
    prefect = f"http://127.0.0.1:{port_of(states, 'prefect')}/api"
    login = {"PREFECT_API_URL": prefect, "PREFECT_API_AUTH_STRING": f"oddframe:{PASSWORD}"}
    sent = use(command, "produce", *frames, "--topic", "events", "--cadence", 0)
    assert sent.returncode == 0, sent.stderr
    notified = use(command, "flows", "notify", "events", **login)
    assert notified.returncode == 0, notified.stderr
    # As the schedule may at any moment: runs of one home wait for each other.
    for deployment in ask_prefect(prefect, "/deployments/filter", {}):
        if deployment["name"] in ("spool", "nightly-verify"):
            begin = {"state": {"type": "SCHEDULED"}}
            ask_prefect(prefect, f"/deployments/{deployment['id']}/create_flow_run", begin)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        runs = ask_prefect(prefect, "/flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ENDED}}}})
        told = [run["state"]["message"] for run in runs if "topic" in run["parameters"].get("source", {})]
        if told and len(runs) >= 3:
            break
        time.sleep(1)
    assert {run["state_type"] for run in runs} == {"COMPLETED"}, [run["state"]["message"] for run in runs]
    assert [message.partition(":")[0] for message in told] == ["3 frames"]


def check_no_secret_was_written(command) -> None:
    for place in command.home.rglob("*"):
        if place.is_file() and "milvus" not in place.parts and "originals" not in place.parts:
            assert PASSWORD.encode() not in place.read_bytes(), place
    for log in (command.home / "stack" / "logs").glob("*.log"):
        assert PASSWORD.encode() not in log.read_bytes(), log


def test_up_use_kill_up_again_and_down(command):
    code, states, said = command("up")
    assert code == 0, said
    assert [state["service"] for state in states] == SERVICES
    assert {state["state"] for state in states} == {"ready"}
    assert sum(state["memory_mib"] for state in states) < MOST_MIB

    check_strangers_are_refused(command, states)
    check_an_event_starts_the_deployment(command, states)

    for state in states:
        os.kill(state["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{state['pid']}/fd").exists() for state in states) and time.monotonic() < deadline:
        time.sleep(0.1)
    code, killed, said = command("status")
    assert code == 1
    assert {state["state"] for state in killed} == {"stopped"}

    code, again, said = command("up")
    assert code == 0, said
    assert {state["state"] for state in again} == {"ready"}
    assert {state["pid"] for state in again}.isdisjoint(state["pid"] for state in states)

    code, lines, _ = command("logs", "kafka", "--lines", "5")
    assert code == 0
    assert len(lines) == 5
    code, _, said = command("logs", "postgres")
    assert code == 2
    assert "there are: catalog, kafka" in said

    code, stopped, said = command("down")
    assert code == 0, said
    assert {state["state"] for state in stopped} == {"stopped"}
    code, _, _ = command("status")
    assert code == 1
    check_no_secret_was_written(command)
