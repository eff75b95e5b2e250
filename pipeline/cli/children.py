"""Child processes that never outlive the command: started on a pipe whose closing tells them to end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.errors import TransientError, UsageError

_SECONDS_TO_END = 20.0
_POLL = 0.1


class Child:
    """A module of ours run by this Python, in a process group of its own."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        directory: Path,
        log: Path | None = None,
    ) -> None:
        self.name = module
        self._log = log
        with contextlib.ExitStack() as stack:
            errors: IO[Any] | None = stack.enter_context(log.open("ab")) if log is not None else None
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(environment),
                cwd=directory,
                text=True,
                # Ctrl-C reaches the command alone, which then ends its children in order.
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise if it has ended.

        Raises:
            TransientError: it has; the text says where to look.
        """
        code = self._process.poll()
        if code is not None:
            where = f"; see {self._log}" if self._log else ""
            raise TransientError(f"{self.name} ended by itself with exit code {code}{where}")

    def read_line(self) -> str:
        """Wait for its next line on standard output; empty if it ended instead."""
        assert self._process.stdout is not None  # noqa: S101 - opened above
        return self._process.stdout.readline().strip()

    def stop(self) -> None:
        """Close its pipe, wait, and then see to it that nothing of its group is left."""
        assert self._process.stdin is not None  # noqa: S101 - opened above
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECONDS_TO_END)
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not _signal_group(self._process.pid, number):
                break
            _wait_until(lambda: not self._is_group_alive(), _SECONDS_TO_END)
        self._process.wait()

    def _is_group_alive(self) -> bool:
        # Its own zombie counts as alive until it is asked for.
        self._process.poll()
        return _signal_group(self._process.pid, 0)


def choose_port(host: str, port: int | None, default: int) -> int:
    """The port asked for, else the default one, else any that is free.

    Raises:
        UsageError: the port asked for is taken, or this machine has no such address.
    """
    for candidate in (port,) if port is not None else (default, 0):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except socket.gaierror as error:
                raise UsageError(f"{host} is no address of this machine: {error.strerror}") from error
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise UsageError(f"cannot listen on {host} port {port}: it is taken or not ours; name another with --port")


def wait_for_health(url: str, seconds: float, *, check: Callable[[], None], tell: Callable[[float], None]) -> None:
    """Ask until the service answers.

    Raises:
        TransientError: it did not, or `check` found that it never will.
    """
    started = time.monotonic()
    while not is_healthy(url):
        check()
        waited = time.monotonic() - started
        if waited > seconds:
            raise TransientError(f"{url} did not answer within {seconds:.0f} s")
        tell(waited)
        time.sleep(_POLL)


def is_healthy(url: str, seconds: float = 5.0) -> bool:
    """Whether the service answers 200."""
    # A proxy of the outside world does not lead to this machine.
    opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if _is_local(url) else []))
    try:
        request = urllib.request.Request(url)  # noqa: S310 - http or https: the user's own setting
        with opener.open(request, timeout=seconds) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004 - HTTP's OK
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _is_local(url: str) -> bool:
    return url.startswith(("http://127.", "http://localhost", "http://[::1]"))


def _signal_group(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def _wait_until(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(_POLL)
