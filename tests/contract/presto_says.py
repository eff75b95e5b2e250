"""What a Presto server says of the statements it was given."""

from __future__ import annotations

from time import monotonic, sleep
from typing import Any

import requests

from pipeline.store.sql_presto_client import PrestoServer

_PATIENCE = 20.0


def list_statements(server: PrestoServer, mark: str = "") -> list[dict[str, Any]]:
    """The statements it remembers whose text holds the mark, as its own interface describes them."""
    listed = requests.get(f"{server.url}/v1/query", timeout=10).json()
    return [one for one in listed if mark in one["query"]]


def states(server: PrestoServer, mark: str) -> list[str]:
    """States of those statements."""
    return [one["state"] for one in list_statements(server, mark)]


def wait_for_start(server: PrestoServer, mark: str) -> list[str]:
    """Their states once one of them runs, or after a while without."""
    end = monotonic() + _PATIENCE
    while monotonic() < end and "RUNNING" not in states(server, mark):
        sleep(0.1)
    return states(server, mark)


def wait_for_end(server: PrestoServer, mark: str) -> list[str]:
    """Their states once none of them runs, or after a while nevertheless."""
    end = monotonic() + _PATIENCE
    while monotonic() < end and not set(states(server, mark)) <= {"FAILED", "FINISHED"}:
        sleep(0.2)
    return states(server, mark)


def why_failed(server: PrestoServer, mark: str) -> list[str]:
    """The names of their errors, once none of them runs."""
    wait_for_end(server, mark)
    return [one["errorCode"]["name"] for one in list_statements(server, mark) if one["state"] == "FAILED"]
