"""Tell a Prefect server that frames came to a topic: deployments that wait for this event start."""

from __future__ import annotations

import httpx
from prefect.client.orchestration import get_client
from prefect.events import Event
from prefect.events.schemas.events import Resource

from pipeline.errors import TransientError, UsageError

ARRIVED = "oddframe.frames.arrived"


def notify(topic: str) -> None:
    """Send the event; it is with the server when this returns.

    Raises:
        UsageError: the server does not take it from us.
        TransientError: it does not answer.
    """
    resource = Resource({"prefect.resource.id": f"oddframe.topic.{topic}", "oddframe.topic": topic})
    event = Event(event=ARRIVED, resource=resource)
    try:
        with get_client(sync_client=True) as client:
            client._client.post("/events", json=[event.model_dump(mode="json")]).raise_for_status()  # noqa: SLF001
    except httpx.HTTPStatusError as error:
        said = f"{error.response.status_code} {error.response.reason_phrase}"
        raise UsageError(f"Prefect's server refuses the event ({said}); see PREFECT_API_AUTH_STRING") from error
    except httpx.HTTPError as error:
        raise TransientError(f"Prefect's server does not answer: {error}") from error
