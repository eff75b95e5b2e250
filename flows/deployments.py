"""`deploy/prefect.yaml` as deployments to serve from one process, or to hand to a work pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentTriggerTypes
from prefect.exceptions import ObjectAlreadyExists
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.schedules import Cron
from prefect.types.entrypoint import EntrypointType
from prefect.utilities.templating import apply_values
from prefect.workers.process import ProcessWorker
from pydantic import TypeAdapter

from pipeline.errors import StoreError

POOL = "oddframe"
_TRIGGERS: TypeAdapter[list[DeploymentTriggerTypes]] = TypeAdapter(list[DeploymentTriggerTypes])
_HOMES = (
    Path(__file__).resolve().parent / "deploy",  # an installed package carries the file inside it
    Path(__file__).resolve().parents[1] / "deploy",  # a checkout has it beside the package
)


def find_prefect_file() -> Path:
    """The `prefect.yaml` of this installation.

    Raises:
        StoreError: the installation has none.
    """
    for home in _HOMES:
        if (home / "prefect.yaml").is_file():
            return home / "prefect.yaml"
    raise StoreError("this installation has no prefect.yaml: install oddframe again")


def read_entries() -> list[dict[str, Any]]:
    """The deployments as the file has them, variables of the environment filled in."""
    text = find_prefect_file().read_text(encoding="utf-8")
    return cast("list[dict[str, Any]]", apply_values(yaml.safe_load(text)["deployments"], {}, remove_notset=False))


def build_deployments() -> list[RunnerDeployment]:
    """Deployments to serve; their work pool does not matter then."""
    return [_build(entry) for entry in read_entries()]


def make_pool() -> bool:
    """Make the work pool, one run at a time, unless it is there; whether it was made."""
    pool = WorkPoolCreate(
        name=POOL,
        description="The one writer of an oddframe home: one run at a time.",
        type="process",
        base_job_template=ProcessWorker.get_default_base_job_template(),
        concurrency_limit=1,
    )
    with get_client(sync_client=True) as client:
        try:
            client.create_work_pool(pool)
        except ObjectAlreadyExists:
            return False
    return True


def _build(entry: dict[str, Any]) -> RunnerDeployment:
    flow: Flow[..., Any] = load_flow_from_entrypoint(entry["entrypoint"])
    schedules = [
        Cron(schedule["cron"], timezone=schedule["timezone"], active=schedule["active"])
        for schedule in entry.get("schedules", [])
    ]
    deployment = flow.to_deployment(
        entry["name"],
        schedules=schedules,
        parameters=entry.get("parameters"),
        description=entry["description"],
        tags=entry["tags"],
        triggers=list[Any](_TRIGGERS.validate_python(entry.get("triggers", []))),
        # By module, so that it loads from whatever directory a run starts in.
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    if not isinstance(deployment, RunnerDeployment):
        raise TypeError("called from asynchronous code")
    return deployment
