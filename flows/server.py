"""A Prefect server in this process, for `oddframe flows serve`: `python -m flows.server HOST PORT`."""

from __future__ import annotations

import signal
import sys

import uvicorn
from prefect.server.api.server import create_app

from flows.lifeline import end_with_parent

_SECONDS_TO_CLOSE = 3


def main(host: str, port: int) -> None:
    """Serve the API and the UI until standard input closes."""
    end_with_parent(signal.SIGTERM)
    # An open page of the UI holds a connection; it must not hold the server.
    uvicorn.run(
        create_app(final=True),
        host=host,
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=_SECONDS_TO_CLOSE,
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
