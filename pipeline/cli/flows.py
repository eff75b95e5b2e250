"""`flows serve | deploy`: the Prefect UI, its schedules and forms, on this machine or on a server that is there."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from cyclopts import App
from filelock import FileLock, Timeout

from pipeline.cli.app import COMMON, Common
from pipeline.cli.children import Child, choose_port, is_healthy, wait_for_health
from pipeline.cli.output import print_json, remark
from pipeline.cli.ranges import Port
from pipeline.errors import LockedError, StoreError, TransientError, UsageError
from pipeline.settings import Settings, load_settings

_DEFAULT_PORT = 4200
_SECONDS_TO_START = 120.0
_SECONDS_BETWEEN_LINES = 3.0
# Another server's profile, key or address would win over, or lead away from, the one started here.
_NOT_OURS = ("PREFECT_PROFILE", "PREFECT_PROFILES_PATH", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING")

flows = App(name="flows", help="Serve or deploy the Prefect flows: schedules, forms and reports in a browser.")


@flows.command
def serve(
    *, host: str = "127.0.0.1", port: Port | None = None, spool: Path | None = None, common: Common = COMMON
) -> int:
    """Start a Prefect server with its UI and run the flows of this home until interrupted.

    Parameters
    ----------
    host
        Address to listen on. Whoever reaches it can start flows: Prefect's server asks for no password.
    port
        Port to listen on; by default 4200, or any free one where that is taken.
    spool
        Folder that the scheduled ingest looks into; by default `spool` in the home.
    """
    settings = load_settings(common.home)
    folder = _make_spool(settings, spool)
    with _interruptible(), _hold_server(settings.home / "prefect") as state:
        chosen = choose_port(host, port, _DEFAULT_PORT)
        url = f"http://{_reachable(host)}:{chosen}"
        environment = _environment(settings, folder) | {
            "PREFECT_HOME": str(state),
            "PREFECT_API_URL": f"{url}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
        with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
            children = _start(stack, (host, chosen), url, environment, state)
            remark(f"oddframe's flows are served: open {url} (stop with Ctrl-C); frames are taken from {folder}")
            if common.json:
                print_json({"url": url, "api": f"{url}/api", "home": str(settings.home), "spool": str(folder)})
            while True:
                time.sleep(0.5)
                for child in children:
                    child.check()
    remark("stopped")
    return 0


@flows.command
def deploy(*, spool: Path | None = None, common: Common = COMMON) -> int:
    """Put the deployments on the Prefect server at PREFECT_API_URL, for workers of the pool `oddframe`.

    Parameters
    ----------
    spool
        Folder that the scheduled ingest looks into, as the workers see it; by default `spool` in the home.
    """
    api = _find_server()
    settings = load_settings(common.home)
    from flows.deployments import POOL, find_prefect_file, make_pool  # noqa: PLC0415 - Prefect loads slowly

    if make_pool():
        remark(f"made the work pool {POOL}, one run at a time")
    file = find_prefect_file()
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    # Not those of a server of our own: the user's login to this one is needed.
    environment = {**os.environ, **_name_places(settings, _make_spool(settings, spool))}
    done = subprocess.run(command, env=environment, cwd=file.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
        raise StoreError(f"prefect deploy failed: {lines[-1]}")
    if common.json:
        print_json({"api": api, "pool": POOL, "home": str(settings.home)})
    remark(f"deployed to {api}; start a worker with: prefect worker start --pool {POOL}")
    return 0


@flows.command
def notify(topic: str | None = None, *, common: Common = COMMON) -> int:
    """Tell the Prefect server at PREFECT_API_URL that frames came: the deployment `topic` reads them.

    Parameters
    ----------
    topic
        The topic they came to; by default the one of the settings.
    """
    api = _find_server()
    chosen = topic or load_settings(common.home).kafka.topic
    from flows.notify import notify as send  # noqa: PLC0415 - Prefect loads slowly

    send(chosen)
    if common.json:
        print_json({"api": api, "topic": chosen})
    remark(f"{api} knows that frames came to topic {chosen}")
    return 0


def _find_server() -> str:
    api = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if not api.startswith(("http://", "https://")):
        raise UsageError("PREFECT_API_URL names no server; set it, e.g. to http://127.0.0.1:4200/api")
    if not is_healthy(f"{api}/health"):
        raise TransientError(f"no Prefect server answers at {api}; start it, or set PREFECT_API_URL")
    return api


def _start(
    stack: contextlib.ExitStack, place: tuple[str, int], url: str, environment: dict[str, str], state: Path
) -> tuple[Child, Child]:
    """The server, then what runs the flows; they are stopped the other way round, so that runs can still report."""
    host, port = place
    server = Child("flows.server", [host, str(port)], environment, directory=state, log=state / "server.log")
    stack.callback(_stop_in_peace, server)
    remark(f"starting Prefect's server on {url} ...")
    wait_for_health(f"{url}/api/health", _SECONDS_TO_START, check=server.check, tell=_Ticker())
    (state / "url").write_text(url, encoding="utf-8")
    # Prefect looks for flows in the current directory first: not where the operator happens to stand.
    runner = Child("flows.serve", [], environment, directory=state)
    stack.callback(_stop_in_peace, runner)
    if not runner.read_line():
        raise TransientError("the flows could not be registered; the lines above say why")
    return server, runner


def _make_spool(settings: Settings, spool: Path | None) -> Path:
    folder = (spool or settings.home / "spool").absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot use {folder} as a spool: {error.strerror}") from error
    return folder


def _environment(settings: Settings, spool: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
    return kept | _name_places(settings, spool)


def _name_places(settings: Settings, spool: Path) -> dict[str, str]:
    return {"ODDFRAME_HOME": str(settings.home), "ODDFRAME_SPOOL": str(spool)}


@contextlib.contextmanager
def _hold_server(state: Path) -> Iterator[Path]:
    """One server a home: two would write to one database."""
    try:
        state.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TransientError(f"cannot make {state}: {error.strerror}; set ODDFRAME_HOME") from error
    lock, address = FileLock(state / "serve.lock"), state / "url"
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        where = f": open {address.read_text(encoding='utf-8')}" if address.is_file() else ""
        raise LockedError(f"the flows of this home are being served already{where}") from error
    try:
        yield state
    finally:
        address.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop_in_peace(child: Child) -> None:
    """An impatient second Ctrl-C must not leave a child behind."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    child.stop()


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", "::"):  # noqa: S104 - only compared
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


class _Ticker:
    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, waited: float) -> None:
        """Say now and then that nothing hangs."""
        if waited - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = waited
            remark(f"... the server is starting, {waited:.0f} s")
