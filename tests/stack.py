"""The local stack for tests of real services: one that is up already, or one started once for this run."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import psutil
import pytest

from pipeline.errors import UsageError
from pipeline.stack.downloads import fetch_all
from pipeline.stack.java import find_java, find_maven
from pipeline.stack.layout import Layout, find_cache
from pipeline.stack.processes import Processes
from pipeline.stack.services import list_services
from pipeline.stack.supervisor import Supervisor
from tests.children import MARK
from tests.ports import find_free_ports

VARIABLE = "ODDFRAME_TEST_STACK"
"""First port of a stack that is up; without it the tests start one of their own."""

_NEEDED = ("kafka", "catalog", "milvus", "presto")
SPAN = 32
"""Ports that a stack may want, in a row."""

_PREFIX, _OWNER = "oddframe-stack-", "owner"


def require_stack() -> Layout:
    """A stack with Kafka, the catalogue, Milvus and Presto; a skip where there is no Java, a failure of that in CI."""
    # One of its own would be started there, and what the two wrote would never meet.
    assert MARK not in os.environ, "a child is handed the stack that its parent found"
    found = _find_stack()
    if isinstance(found, Layout):
        return found
    if os.environ.get("CI"):
        pytest.fail(f"the tests of real services must run here: {found}")
    pytest.skip(f"no real services: {found}")


@lru_cache(maxsize=1)
def _find_stack() -> Layout | str:
    if first := os.environ.get(VARIABLE):
        data = Path(os.environ.get("ODDFRAME_STACK__DATA") or ".oddframe/stack")
        return Layout(data.absolute(), _cache(), int(first))
    try:
        find_java()
        find_maven()
    except UsageError as error:
        return str(error)
    return start_stack(_NEEDED)[0]


@contextmanager
def lend_stack(names: tuple[str, ...]) -> Iterator[tuple[Layout, Supervisor]]:
    """Services that are nobody else's; where their state is there is room for more."""
    layout, supervisor = start_stack(names)
    try:
        yield layout, supervisor
    finally:
        supervisor.stop(print)


def start_stack(names: tuple[str, ...]) -> tuple[Layout, Supervisor]:
    """Start these services with all state in a directory that goes with this process, as they do."""
    _clear_left_behind()
    data = Path(tempfile.mkdtemp(prefix=_PREFIX))
    layout = Layout(data, _cache(), find_free_ports(SPAN))
    services = [service for service in list_services(layout, data / "home") if service.name in names]
    supervisor = Supervisor(layout, services)
    (data / _OWNER).write_text(str(os.getpid()))

    def stop() -> None:
        supervisor.stop(print)
        shutil.rmtree(data, ignore_errors=True)

    atexit.register(stop)
    fetch_all(layout.cache, print)
    supervisor.start(print)
    return layout, supervisor


def _clear_left_behind() -> None:
    """Stop the stacks of test runs that were killed."""
    for data in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = data / _OWNER
        if owner.is_file() and not psutil.pid_exists(int(owner.read_text())):
            for note in (data / "run").glob("*.json"):
                Processes(data / "run", data / "logs").stop(note.stem, 1)
            shutil.rmtree(data, ignore_errors=True)


def _cache() -> Path:
    named = os.environ.get("ODDFRAME_STACK__CACHE")
    return Path(named) if named else find_cache()
