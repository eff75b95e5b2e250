"""Tell a Prefect server that frames came to a topic: deployments that wait for this event start."""

from __future__ import annotations

from prefect.client.orchestration import get_client
from prefect.events import Event
from prefect.events.schemas.events import Resource

ARRIVED = "oddframe.frames.arrived"


def notify(topic: str) -> None:
    """Send the event; it is with the server when this returns."""
    resource = Resource({"prefect.resource.id": f"oddframe.topic.{topic}", "oddframe.topic": topic})
    event = Event(event=ARRIVED, resource=resource)
    with get_client(sync_client=True) as client:
        client._client.post("/events", json=[event.model_dump(mode="json")]).raise_for_status()  # noqa: SLF001
