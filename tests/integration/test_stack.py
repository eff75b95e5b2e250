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

from tests.stack import find_ports, require_stack

MOST_MIB = 6 * 1024
_OURSELVES = "from pipeline.cli.app import main; main()"
SERVICES = ["kafka", "catalog", "milvus", "prefect", "presto", "worker"]

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    require_stack()
    home = tmp_path_factory.mktemp("stack") / "home"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"ODDFRAME_STACK__FIRST_PORT": str(find_ports()), "ODDFRAME_STACK__DATA": str(home / "stack")}

    def run(*arguments: str) -> tuple[int, list[dict], str]:
        whole = [sys.executable, "-c", _OURSELVES, "stack", *arguments, "--home", str(home), "--json"]
        done = subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=400, check=False)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    yield run
    run("down")


def test_up_kill_up_again_and_down(command):
    code, states, said = command("up")
    assert code == 0, said
    assert [state["service"] for state in states] == SERVICES
    assert {state["state"] for state in states} == {"ready"}
    assert sum(state["memory_mib"] for state in states) < MOST_MIB

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
