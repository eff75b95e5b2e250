"""`oddframe flows serve` as an operator has it: forms sent over HTTP as the UI sends them, reports read back."""

from __future__ import annotations

import csv
import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.cli.children import is_healthy
from tests.lake_tools import add_references, command, lake_at, make_environment, oddframe

SAMPLES = Path(__file__).resolve().parents[2] / "sample_fits"
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
# Generous: a loaded machine starts Python several times slower than an idle one.
START_S, RUN_S, STOP_S = 120, 90, 60

pytestmark = pytest.mark.timeout(300)


class Served:
    """A running `oddframe flows serve` and its API."""

    def __init__(self, process: subprocess.Popen[str], api: str, home: Path) -> None:
        self.process, self.api, self.home = process, api, home

    def call(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.api + path, data, {"content-type": "application/json"})  # noqa: S310
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + RUN_S
        while True:
            try:
                with opener.open(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                # Its database is busy with another writer; Prefect's own client asks again, too.
                if error.code != 503 or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def start(self, deployment: str, parameters: dict[str, Any]) -> str:
        found = self.call(f"/deployments/name/{deployment}")
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return self.call(f"/deployments/{found['id']}/create_flow_run", body)["id"]

    def run(self, deployment: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Start a deployment and wait for its end."""
        run = self.start(deployment, parameters)
        deadline = time.monotonic() + RUN_S
        while time.monotonic() < deadline:
            state = self.call(f"/flow_runs/{run}")
            if state["state_type"] in ENDED:
                return state
            time.sleep(0.3)
        raise AssertionError(f"{deployment} did not end within {RUN_S} s: {state['state']}")

    def artifacts(self, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
        found = self.call("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
        return {artifact["key"]: artifact for artifact in found}


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    home = directory / "home"
    # Prefect looks into the current directory first: what happens to lie there must not be taken for the flows.
    (directory / "flows.py").write_text("raise SystemExit('the wrong flows')\n", encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        command("flows", "serve", "--port", port, "--json"),
        env=make_environment(home),
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=(directory / "stderr").open("w"),
        text=True,
    )
    try:
        # While the server starts, which holds its own database alone.
        with lake_at(home) as lake:
            add_references(lake, sorted((SAMPLES / "references").iterdir()))
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (directory / "stderr").read_text(encoding="utf-8")
        announced = json.loads(line)
        assert announced["api"] == f"http://127.0.0.1:{port}/api"
        yield Served(process, announced["api"], home)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


def read_odd() -> dict[str, str]:
    """Names and content hashes of the odd frames of the sample night."""
    with (SAMPLES / "MANIFEST.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith("night/")]
    return {Path(row["file"]).name: row["sha256"] for row in rows if row["label"] == "1"}


def test_the_ui_and_all_deployments_are_there(served):
    names = {d["name"] for d in served.call("/deployments/filter", {})}
    nightly = {"nightly-archive", "nightly-maintain", "nightly-verify"}
    assert names == {"spool", "topic", "add", "learn", "promote", "audit", "sensitivity", *nightly}
    form = served.call("/deployments/name/ingest/spool")
    assert form["parameters"]["source"] == {"spool": str(served.home / "spool")}
    assert form["parameter_openapi_schema"]["definitions"]["IngestOptions"]["properties"]["batch"]["title"]
    assert is_healthy(served.api.removesuffix("/api"))


def test_a_night_started_from_the_form_reports_its_flagged_frames_first(served):
    parameters = {
        "source": {"paths": [str(SAMPLES / "night"), str(SAMPLES / "formats")]},
        "options": {"batch": 8, "verify": True},
    }
    run = served.run("ingest/spool", parameters)
    assert (run["state_type"], run["name"]) == ("COMPLETED", "ingest night and 1 more"), run["state"]["message"]
    found = served.artifacts(run)
    assert set(found) == {"ingest-progress", "ingest-verdicts", "ingest-summary", "oddest-frame"}
    rows = json.loads(found["ingest-verdicts"]["data"])
    odd = read_odd()
    assert {row["frame"] for row in rows[: len(odd)]} == odd.keys()
    assert {row["status"] for row in rows[: len(odd)]} == {"anomaly"}
    assert found["ingest-progress"]["data"] == 100
    story = found["ingest-summary"]["data"]
    assert f"| anomaly | {len(odd)} |" in story
    assert "oddframe explain" in story
    assert "checks agree" in story
    assert found["oddest-frame"]["data"].startswith("data:image/png;base64,")
    tasks = served.call("/task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
    batches = sorted(task["name"] for task in tasks if task["name"].startswith("batch"))
    assert batches == ["batch 1 of 2: 8 frames", "batch 2 of 2: 6 frames"]


def test_a_nightly_tidying_tells_what_it_did(served):
    run = served.run("maintain/nightly-maintain", {"options": {"dry_run": True}})
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    found = served.artifacts(run)
    assert set(found) == {"maintain-progress", "maintain-table", "maintain-summary"}
    assert found["maintain-progress"]["data"] == 100
    assert "dry run" in found["maintain-summary"]["data"]
    table = json.loads(found["maintain-table"]["data"])
    assert {row["step"] for row in table} == {"compact", "expire", "orphans", "vectors"}
    assert "small files merged away" in run["state"]["message"]


def test_a_promotion_names_who_joined_and_is_never_started_by_the_clock(served):
    deployment = served.call("/deployments/name/reference-promote/promote")
    assert [schedule["active"] for schedule in deployment["schedules"]] == [False]
    tried = served.run("reference-promote/promote", {"options": {"dry_run": True, "days": 0, "p": 0}})
    assert tried["state_type"] == "COMPLETED", tried["state"]["message"]
    count = int(tried["state"]["message"].removesuffix(" would be added."))
    run = served.run("reference-promote/promote", {"options": {"days": 0, "p": 0}})
    assert run["state"]["message"] == f"{count} added."
    found = served.artifacts(run)
    assert set(found) == {"promotion-table", "promotion-summary"}
    assert {row["action"] for row in json.loads(found["promotion-table"]["data"])} == {"added"}
    assert not {row["name"] for row in json.loads(found["promotion-table"]["data"])} & read_odd().keys()
    again = served.run("reference-promote/promote", {"options": {"days": 0, "p": 0}})
    assert again["state"]["message"] == "No frame joined."


@pytest.mark.parametrize(
    "parameters",
    [
        {"options": {"repair": "perhaps"}},
        {"options": {"mend": True}},
    ],
)
def test_a_wrong_form_is_refused_before_anything_runs(served, parameters):
    with pytest.raises(urllib.error.HTTPError) as caught:
        served.start("verify/nightly-verify", parameters)
    assert caught.value.code in (409, 422)


def test_verify_fails_with_the_difference_it_finds(served):
    frame_id = min(read_odd().values())
    (lost,) = (served.home / "originals").rglob(f"{frame_id}*")
    kept = lost.with_name(f".{lost.name}.kept")
    lost.rename(kept)
    try:
        run = served.run("verify/nightly-verify", {"options": {"repair": False}})
    finally:
        kept.rename(lost)
    assert run["state_type"] == "FAILED"
    assert run["state"]["message"].startswith("1 of 11 checks found differences: originals")
    rows = json.loads(served.artifacts(run)["verify-checks"]["data"])
    assert rows[0]["agrees"] == "NO"
    assert rows[0]["for example"] == frame_id


def test_a_second_server_of_the_same_home_is_refused(served):
    done = oddframe("flows", "serve", home=served.home)
    assert done.returncode == 3
    assert f"served already: open {served.api.removesuffix('/api')}" in done.stderr
    assert "Traceback" not in done.stderr


def test_deploying_hands_all_flows_to_a_pool_of_one(served):
    # Last before the end: from here on the deployments wait for a worker.
    done = oddframe("flows", "deploy", "--json", home=served.home, PREFECT_API_URL=served.api)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pool"] == "oddframe"
    pool = served.call("/work_pools/oddframe")
    assert (pool["type"], pool["concurrency_limit"]) == ("process", 1)
    deployed = served.call("/deployments/filter", {})
    assert {d["work_pool_name"] for d in deployed} == {"oddframe"}
    assert {json.dumps(d["pull_steps"]) for d in deployed} == {"[]"}
    assert {d["job_variables"]["env"]["ODDFRAME_HOME"] for d in deployed} == {str(served.home)}


def test_sigterm_leaves_no_process_behind(served):
    family = psutil.Process(served.process.pid).children(recursive=True)
    assert len(family) >= 2, "the server and the runner"
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(STOP_S) == 0
    _, alive = psutil.wait_procs(family, timeout=5)
    assert not alive
    assert not (served.home / "prefect" / "url").exists()


def test_deploying_to_nobody_is_one_line(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        api = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        done = oddframe("flows", "deploy", home=tmp_path / "home", PREFECT_API_URL=api)
    assert done.returncode == 3
    assert done.stderr == f"oddframe: no Prefect server answers at {api}; start it, or set PREFECT_API_URL\n"
    assert not (tmp_path / "home").exists()


def test_deploying_without_an_address_is_wrong_use(tmp_path):
    done = oddframe("flows", "deploy", home=tmp_path / "home", PREFECT_API_URL="")
    assert done.returncode == 2
    assert "PREFECT_API_URL" in done.stderr
