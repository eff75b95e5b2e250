"""The local stack as a whole: up, down, status."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from filelock import FileLock, Timeout

from pipeline.errors import LockedError, TransientError, UsageError
from pipeline.stack.layout import Layout
from pipeline.stack.probes import NotReadyError
from pipeline.stack.processes import Processes
from pipeline.stack.services import Service

_POLL = 0.25
_LAST_LINES = 3

Tell = Callable[[str, str], None]
"""Told a service and what became of it: starting, ready, running, stopped, killed."""


@dataclass(frozen=True, slots=True)
class State:
    """One service as it is.

    Attributes:
        state: `ready`, `not ready` (it runs and does not answer) or `stopped`.
        memory: resident bytes, children included.
        reason: why it is not ready.
    """

    name: str
    state: str
    pid: int | None
    memory: int
    url: str
    reason: str


class Supervisor:
    """Starts and stops the services of one stack; one at a time."""

    def __init__(self, layout: Layout, services: Sequence[Service]) -> None:
        self._layout = layout
        self._services = services
        self._processes = Processes(layout.run, layout.logs)

    def start(self, tell: Tell) -> None:
        """Start what does not run, each as soon as those it needs answer.

        Raises:
            LockedError: another `stack` command is at work.
            UsageError: a port is taken.
            TransientError: a service ended or did not answer in time; its last words are in the text.
        """
        with self._locked():
            running = {s.name for s in self._services if self._processes.find(s.name)}
            _check_ports([s for s in self._services if s.name not in running])
            waiting, ready = list(self._services), set[str]()
            started: dict[str, float] = {}
            while waiting:
                for service in list(waiting):
                    if service.name not in started and set(service.after) <= ready:
                        self._begin(service, tell)
                        started[service.name] = time.monotonic()
                    if service.name in started and self._is_ready(service, started[service.name]):
                        tell(service.name, "ready")
                        ready.add(service.name)
                        waiting.remove(service)
                time.sleep(_POLL)

    def stop(self, tell: Tell) -> None:
        """Stop everything, last started first.

        Raises:
            LockedError: another `stack` command is at work.
        """
        with self._locked():
            for service in reversed(self._services):
                if self._processes.find(service.name) is None:
                    continue
                tell(service.name, "stopping")
                peaceful = self._processes.stop(service.name, service.seconds_to_stop)
                tell(service.name, "stopped" if peaceful else "killed")

    def describe(self) -> list[State]:
        """How every service is, asked all at once."""
        with ThreadPoolExecutor(len(self._services)) as pool:
            return list(pool.map(self._describe, self._services))

    def _describe(self, service: Service) -> State:
        running = self._processes.find(service.name)
        if running is None:
            return State(service.name, "stopped", None, 0, service.url, "")
        try:
            service.probe()
        except NotReadyError as error:
            return State(service.name, "not ready", running.pid, running.memory, service.url, str(error))
        return State(service.name, "ready", running.pid, running.memory, service.url, "")

    def _begin(self, service: Service, tell: Tell) -> None:
        if self._processes.find(service.name) is not None:
            tell(service.name, "running")
            return
        tell(service.name, "starting")
        service.directory.mkdir(parents=True, exist_ok=True)
        service.prepare()
        self._processes.start(service.name, service.command, service.environment, service.directory)

    def _is_ready(self, service: Service, since: float) -> bool:
        if self._processes.find(service.name) is None:
            raise TransientError(f"{service.name} ended while it started: {self._last_words(service)}")
        try:
            service.probe()
        except NotReadyError as error:
            if time.monotonic() - since > service.seconds:
                raise TransientError(
                    f"{service.name} did not answer within {service.seconds:.0f} s ({error}); see"
                    f" {self._processes.log(service.name)}"
                ) from error
            return False
        return True

    def _last_words(self, service: Service) -> str:
        log = self._processes.log(service.name)
        lines = list(read_tail(log.read_text(encoding="utf-8", errors="replace").splitlines(), _LAST_LINES))
        return f"{' / '.join(lines) or 'it said nothing'} (all of it in {log})"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self._layout.data.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make {self._layout.data}: {error.strerror}; set ODDFRAME_HOME") from error
        lock = FileLock(self._layout.data / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise LockedError("another `oddframe stack` command is at work; wait for it") from error
        try:
            yield
        finally:
            lock.release()


def read_tail(lines: Iterable[str], count: int) -> list[str]:
    """The last lines that say anything."""
    return [line.strip() for line in lines if line.strip()][-count:]


def _check_ports(services: Iterable[Service]) -> None:
    for service in services:
        for port in service.ports:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise UsageError(
                        f"port {port}, wanted for {service.name}, is taken by another program; stop it or set"
                        " ODDFRAME_STACK__FIRST_PORT"
                    ) from error
