"""Services as processes that outlive the command: a note of each says which process it is, beyond its number."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline.errors import StoreError

_POLL = 0.1
# A process number may be used again; its start time tells two apart. Both clocks tick in hundredths of a second.
_SAME_START = 0.05


@dataclass(frozen=True, slots=True)
class Running:
    """A service's process.

    Attributes:
        memory: resident bytes of it and its children.
    """

    pid: int
    started: float
    memory: int


class Processes:
    """Starts, finds and stops processes by name."""

    def __init__(self, run: Path, logs: Path) -> None:
        self._run = run
        self._logs = logs

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], directory: Path) -> None:
        """Start a process in a session of its own, its output appended to its log.

        Raises:
            StoreError: the program is not there or may not be run.
        """
        for place in (self._run, self._logs, directory):
            place.mkdir(parents=True, exist_ok=True)
        try:
            with self.log(name).open("ab") as log:
                process = subprocess.Popen(
                    list(command),
                    env=dict(environment),
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise StoreError(f"cannot start {name}: {error.strerror} ({command[0]})") from error
        note = {"pid": process.pid, "started": psutil.Process(process.pid).create_time()}
        part = self._note(name).with_suffix(".part")
        part.write_text(json.dumps(note), encoding="utf-8")
        part.rename(self._note(name))

    def find(self, name: str) -> Running | None:
        """The process of this name, if it runs."""
        process = self._find(name)
        if process is None:
            return None
        try:
            family = [process, *process.children(recursive=True)]
            memory = sum(member.memory_info().rss for member in family if member.is_running())
            return Running(process.pid, process.create_time(), memory)
        except psutil.NoSuchProcess:
            return None

    def stop(self, name: str, seconds: float) -> bool:
        """Ask it to end, and kill its group where it does not in time; returns whether it ended by itself."""
        process = self._find(name)
        peaceful = True
        if process is not None:
            _signal(process.pid, signal.SIGTERM)
            peaceful = _wait_gone(process, seconds)
            if not peaceful:
                _signal_group(process.pid, signal.SIGKILL)
                _wait_gone(process, seconds)
            # What it started and left behind.
            _signal_group(process.pid, signal.SIGKILL)
        self._note(name).unlink(missing_ok=True)
        return peaceful

    def log(self, name: str) -> Path:
        """Its log."""
        return self._logs / f"{name}.log"

    def _note(self, name: str) -> Path:
        return self._run / f"{name}.json"

    def _find(self, name: str) -> psutil.Process | None:
        try:
            note = json.loads(self._note(name).read_text(encoding="utf-8"))
            process = psutil.Process(note["pid"])
            same = abs(process.create_time() - note["started"]) < _SAME_START
            alive = process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
        except (OSError, ValueError, KeyError, psutil.Error):
            return None
        return process if same and alive else None


def _wait_gone(process: psutil.Process, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(_POLL)
    return False


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return
