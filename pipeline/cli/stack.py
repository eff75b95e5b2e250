"""`stack up | down | status | logs`: Kafka, catalogue, Presto, Milvus and Prefect here, without containers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cyclopts import App
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from pipeline.cli.app import COMMON, EXIT_DIFFERENCE, Common
from pipeline.cli.output import print_json, print_lines, remark
from pipeline.errors import StoreError, UsageError
from pipeline.parts import find_layout
from pipeline.settings import Settings, load_settings
from pipeline.stack.downloads import fetch_all
from pipeline.stack.layout import Layout
from pipeline.stack.services import list_services
from pipeline.stack.supervisor import State, Supervisor, read_tail

_MIB = 2**20
_POLL = 0.5
_OURSELVES = "from pipeline.cli.app import main; main()"
_COLUMNS = ("service", "state", "pid", "memory_mib", "url", "reason")

stack = App(name="stack", help="Kafka, Iceberg catalogue, Presto, Milvus and Prefect on this machine.")


@stack.command
def up(*, common: Common = COMMON) -> int:
    """Download what is missing, start what does not run, wait until all of it answers, deploy the flows.

    Kafka, Presto and Prefect listen on this machine alone. The catalogue, Milvus and a few helper ports of Presto
    cannot be told to and listen on every address: use a firewall where others share the network, and set
    `stack.password`, which Prefect and Milvus then ask for.
    """
    settings = load_settings(common.home)
    layout = find_layout(settings)
    supervisor = Supervisor(layout, list_services(layout, settings.home))
    with _show_progress() as board:
        fetch_all(layout.cache, board.fetched)
        supervisor.start(board.told)
        _deploy(settings, layout)
    _print(supervisor.describe(), common)
    remark(
        f"up: Prefect's UI is http://127.0.0.1:{layout.port('prefect')}, Presto's http://127.0.0.1:{layout.port('presto')}"
    )
    return 0


@stack.command
def down(*, common: Common = COMMON) -> int:
    """Stop every service; what they hold is kept."""
    settings = load_settings(common.home)
    layout = find_layout(settings)
    supervisor = Supervisor(layout, list_services(layout, settings.home))
    with _show_progress() as board:
        supervisor.stop(board.told)
    _print(supervisor.describe(), common)
    return 0


@stack.command
def status(*, common: Common = COMMON) -> int:
    """How each service is; exit code 1 unless all are ready."""
    settings = load_settings(common.home)
    layout = find_layout(settings)
    states = Supervisor(layout, list_services(layout, settings.home)).describe()
    _print(states, common)
    return 0 if all(state.state == "ready" for state in states) else EXIT_DIFFERENCE


@stack.command
def logs(service: str, *, lines: int = 40, follow: bool = False, common: Common = COMMON) -> int:
    """What a service said.

    Parameters
    ----------
    service
        kafka, catalog, milvus, prefect, presto or worker.
    lines
        So many of the last lines.
    follow
        Go on until interrupted.
    """
    if lines < 1:
        raise UsageError(f"--lines {lines} makes no sense; give a number from 1")
    layout = find_layout(load_settings(common.home))
    log = layout.logs / f"{service}.log"
    if not log.is_file():
        known = ", ".join(sorted(path.stem for path in layout.logs.glob("*.log"))) or "none yet: `oddframe stack up`"
        raise UsageError(f"there is no log of {service!r}; there are: {known}")
    with log.open(encoding="utf-8", errors="replace") as file:
        for line in read_tail(file, lines):
            _say(service, line, common)
        while follow:
            if line := file.readline():
                _say(service, line.rstrip("\n"), common)
            else:
                time.sleep(_POLL)
    return 0


def _deploy(settings: Settings, layout: Layout) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= layout.prefect_login | {
        "PREFECT_API_URL": f"http://127.0.0.1:{layout.port('prefect')}/api",
        "PREFECT_HOME": str(layout.place("prefect")),
    }
    command = [sys.executable, "-c", _OURSELVES, "flows", "deploy", "--home", str(settings.home)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or "no reason given").splitlines()
        raise StoreError(f"the services are up, but the flows could not be deployed: {lines[-1]}")


def _print(states: list[State], common: Common) -> None:
    lines = [
        {
            "service": state.name,
            "state": state.state,
            "pid": state.pid,
            "memory_mib": round(state.memory / _MIB),
            "url": state.url,
            "reason": state.reason,
        }
        for state in states
    ]
    print_lines(lines, as_json=common.json, columns=_COLUMNS)


def _say(service: str, line: str, common: Common) -> None:
    if common.json:
        print_json({"service": service, "line": line})
    else:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


class _Lines:
    """Plain lines, where nobody watches."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def fetched(self, name: str, done: int, of: int) -> None:
        """So many files of a download are here."""
        self._say(f"{name}: {'downloaded' if done == of else 'downloading'}")

    def told(self, name: str, what: str) -> None:
        """Something became of a service."""
        self._say(f"{name}: {what}")

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            remark(line)


class _Bars:
    """A bar for each download and each service, on a terminal."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def fetched(self, name: str, done: int, of: int) -> None:
        """So many files of a download are here."""
        self._show(f"download {name}", f"download {name}", done, of)

    def told(self, name: str, what: str) -> None:
        """Something became of a service."""
        self._show(name, f"{name} {what}", int(what in ("ready", "stopped", "killed")), 1)

    def _show(self, key: str, text: str, done: int, of: int) -> None:
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(text)
        self._bars.update(self._tasks[key], description=text, completed=done, total=of)


@contextmanager
def _show_progress() -> Iterator[_Lines | _Bars]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        yield _Bars(bars)
