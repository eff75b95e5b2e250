"""A stack of its own for faults: its services are killed, and whoever shares them would wonder."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.stack.layout import Layout
from pipeline.stack.supervisor import Supervisor
from tests.faults.world import World
from tests.stack import lend_stack

_SERVICES = ("kafka", "catalog", "milvus")


@dataclass
class Stage:
    """Where faults happen.

    Attributes:
        make_world: takes sections of settings that differ.
    """

    layout: Layout
    supervisor: Supervisor
    make_world: Callable[..., World]
    random: random.Random

    def pid_of(self, service: str) -> int:
        """Process id of a running service."""
        return next(state.pid for state in self.supervisor.describe() if state.name == service and state.pid)


@contextmanager
def open_stage(seed: int = 1) -> Iterator[Stage]:
    """Start the services; they go with this process."""
    numbers = iter(range(seed, 1_000_000))
    with lend_stack(_SERVICES) as (layout, supervisor):

        def make_world(services: dict[str, Any] | None = None) -> World:
            world = World(layout, layout.data / "homes", next(numbers), services)
            world.add_references()
            return world

        yield Stage(layout, supervisor, make_world, random.Random(seed))
