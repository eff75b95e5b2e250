"""Flows without a server: what forms ask, what tasks call, what artifacts say, what prefect.yaml promises."""

from __future__ import annotations

import socket
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ParameterBindError, ParameterTypeError
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.states import Failed

from flows import deployments, tasks
from flows.archive import archive
from flows.forms import EmbeddingChoice, FileList, IngestOptions, SpoolFolder, embedding_name
from flows.ingest import ingest
from flows.maintain import maintain
from flows.reference import add_references, promote
from flows.verify import verify
from pipeline.cli.children import choose_port, is_healthy
from pipeline.embed.registry import known_embeddings
from pipeline.embed.residual_spec import ResidualSpec
from pipeline.errors import CommitConflictError, LockedError, StoreError, TransientError, UsageError

FLOWS = (ingest, add_references, promote, archive, maintain, verify)


# Forms


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_every_field_of_a_form_has_a_title_and_a_text(flow):
    schema = flow.parameters.model_dump_for_openapi()
    assert schema["properties"], "a form without fields"
    for name, field in schema["properties"].items():
        assert field.get("description"), f"{flow.name}: {name} is not explained"
    forms = schema["definitions"].values()
    for form in forms:
        for name, field in form["properties"].items():
            assert field["title"], name
            # A title made from the name by pydantic would be the name in capitals.
            assert field["title"] != name.replace("_", " ").title() or name in (
                "paths",
                "embedding",
                "repair",
                "why",
                "topic",
            )
            assert field["description"].endswith("."), name


def test_choices_of_embedding_are_those_there_are():
    choices = EmbeddingChoice.__args__
    assert choices == ("best", ResidualSpec().name, *(e.name for e in known_embeddings((64, 64))))
    assert embedding_name("best") is None
    assert embedding_name("pixels") == "pixels"


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"source": {"spool": "relative/folder"}},
        {"source": {"paths": []}},
        {"source": {"paths": ["relative.fits"]}},
        {"source": {"spool": "/spool", "paths": ["/a.fits"]}},
        {"source": {"spool": "/spool"}, "options": {"batch": 0}},
        {"source": {"spool": "/spool"}, "options": {"embedding": "telepathy"}},
        {"source": {"spool": "/spool"}, "options": {"bathc": 5}},
    ],
)
def test_a_wrong_form_is_refused(parameters):
    with pytest.raises((ParameterTypeError, ParameterBindError)):
        ingest.validate_parameters({"options": IngestOptions(), **parameters})


def test_a_run_is_named_after_its_source():
    assert SpoolFolder(spool="/data/spool").label == "spool/"
    assert FileList(paths=["/data/m31.fits"]).label == "m31.fits"
    assert FileList(paths=["/data/night", "/data/b", "/data/c"]).label == "night and 2 more"


# Tasks


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (TransientError("busy"), True),
        (CommitConflictError("another writer"), True),
        (LockedError("in use"), False),
        (StoreError("wrong"), False),
        (ValueError("ours"), False),
    ],
)
def test_only_transient_faults_are_tried_again(error, again):
    assert tasks.is_transient(tasks.check_lake, None, Failed(data=error)) is again


def test_tasks_back_off_with_jitter_and_keep_nothing():
    for task in (
        tasks.ingest_batch,
        tasks.check_lake,
        tasks.mend_lake,
        tasks.audit_lake,
        tasks.promote_normal,
        tasks.tidy_home,
    ):
        assert task.retries == 3
        assert task.retry_delay_seconds == [2, 4, 8]
        assert task.retry_jitter_factor == 0.5
        assert task.retry_condition_fn is tasks.is_transient
        assert task.persist_result is False


def test_a_batch_task_ingests_its_batch():
    sweep = SimpleNamespace(ingest=lambda paths: [{"name": path.name} for path in paths])
    found = tasks.ingest_batch.fn(sweep, [Path("a.fits"), Path("b.fits")], 1, 3, 2)
    assert [line["name"] for line in found] == ["a.fits", "b.fits"]


def test_workers_do_not_import_the_engine(monkeypatch):
    engine = ModuleType("__main__")
    engine.__spec__ = ModuleSpec("prefect.engine", None)
    monkeypatch.setitem(tasks.sys.modules, "__main__", engine)
    tasks.spare_workers()
    assert engine.__spec__.name.endswith(".__main__"), "multiprocessing imports any other main module anew"


def test_another_main_module_is_left_alone(monkeypatch):
    ours = ModuleType("__main__")
    ours.__spec__ = ModuleSpec("bench.run", None)
    monkeypatch.setitem(tasks.sys.modules, "__main__", ours)
    tasks.spare_workers()
    assert ours.__spec__.name == "bench.run"


# prefect.yaml


@pytest.fixture
def entries(monkeypatch) -> list[dict]:
    monkeypatch.setenv("ODDFRAME_HOME", "/srv/oddframe")
    monkeypatch.setenv("ODDFRAME_SPOOL", "/srv/spool")
    return deployments.read_entries()


def test_every_deployment_loads_and_its_parameters_fit_its_form(entries):
    for entry in entries:
        flow = load_flow_from_entrypoint(entry["entrypoint"])
        assert isinstance(flow, Flow)
        if entry.get("parameters"):
            flow.validate_parameters(entry["parameters"])
        assert entry["description"].strip()
        assert "oddframe" in entry["tags"]
        assert entry["concurrency_limit"] == {"limit": 1, "collision_strategy": "ENQUEUE"}
        assert entry["work_pool"]["name"] == deployments.POOL
        assert entry["work_pool"]["job_variables"]["env"] == {"ODDFRAME_HOME": "/srv/oddframe"}
        for schedule in entry.get("schedules", []):
            CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])


def test_ingest_and_housekeeping_are_scheduled(entries):
    scheduled = {entry["entrypoint"] for entry in entries if entry.get("schedules")}
    nightly = {f"flows.{name}.{name}" for name in ("archive", "maintain", "verify")}
    assert {"flows.ingest.ingest", *nightly} <= scheduled
    spool = next(entry for entry in entries if entry["entrypoint"] == "flows.ingest.ingest")
    assert spool["parameters"]["source"] == {"spool": "/srv/spool"}


def test_nothing_becomes_a_reference_by_a_schedule_that_nobody_switched_on(entries):
    (entry,) = [entry for entry in entries if entry["entrypoint"] == "flows.reference.promote"]
    assert [schedule["active"] for schedule in entry["schedules"]] == [False]
    (built,) = [d for d in deployments.build_deployments() if d.name == entry["name"]]
    assert [schedule.active for schedule in built.schedules] == [False]


def test_workers_fetch_no_code():
    text = yaml.safe_load(deployments.find_prefect_file().read_text(encoding="utf-8"))
    # An absent `pull` would make Prefect write a step that clones this repository.
    assert text["pull"] == []


def test_served_deployments_are_those_of_the_file(entries):
    built = deployments.build_deployments()
    assert [(d.name, d.entrypoint) for d in built] == [(e["name"], e["entrypoint"]) for e in entries]
    assert all(d.enforce_parameter_schema for d in built)
    assert [len(d.schedules or []) for d in built] == [len(e.get("schedules", [])) for e in entries]


# The command


def test_a_taken_default_port_gives_way_and_a_named_one_does_not():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert choose_port("127.0.0.1", None, port) != port
        with pytest.raises(UsageError, match="--port"):
            choose_port("127.0.0.1", port, 4200)


def test_what_does_not_answer_is_not_healthy():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        assert not is_healthy(f"http://127.0.0.1:{silent.getsockname()[1]}/api/health")
    assert not is_healthy("http://[::1")
