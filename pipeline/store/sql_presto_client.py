"""One statement on a Presto server: started, read page by page, stopped.

The library's own cursor reads an answer to its end before it hands out the first row, so its requests are used here
and the pages are followed one by one. A statement only ever reads: it is sent again when the connection fails before
its first row is there, and never after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import requests
import stamina
from prestodb.client import ClientSession, PrestoRequest
from prestodb.exceptions import HttpError, PrestoQueryError

from pipeline.errors import StoreError, TransientError, UsageError
from pipeline.store.http_faults import say_fault
from pipeline.store.schema import NAMESPACE
from pipeline.store.sql_presto_faults import name_fault

_ATTEMPTS = 3
# To connect, and for each answer; the server gives one within a second, ready or not.
_REQUEST_SECONDS = (5.0, 30.0)
_BUSY = (502, 503, 504)


@dataclass(frozen=True, slots=True)
class PrestoServer:
    """Where Presto listens and which of its tables are meant.

    Attributes:
        host: name or address of the coordinator.
        port: of the coordinator.
        user: the name statements run under.
        catalog: the Presto catalogue that holds the tables.
        schema: the Iceberg namespace.
        scheme: http or https.
    """

    host: str
    port: int = 8080
    user: str = "oddframe"
    catalog: str = "lake"
    schema: str = NAMESPACE
    scheme: str = "http"

    @property
    def url(self) -> str:
        """Address of the coordinator."""
        return f"{self.scheme}://{self.host}:{self.port}"


class _LostError(TransientError):
    """No answer, or none yet: what only reads may be sent again."""


@contextmanager
def run_statement(server: PrestoServer, text: str, seconds: float, stopped: str) -> Iterator[PrestoAnswer]:
    """Run a statement; leaving the block, by an interrupt too, cancels what still runs.

    Args:
        server: the coordinator to ask.
        text: one statement in Presto dialect that only reads.
        seconds: it is stopped after this long, by the server even if this process is gone.
        stopped: what to tell the user then.

    Raises:
        UsageError: Presto refuses the statement, or it takes too long.
        TransientError: the server does not answer.
        StoreError: it fails.
    """
    end = monotonic() + seconds
    with requests.Session() as session:
        answer = PrestoAnswer(lambda: _new_request(server, session, seconds), end, stopped)
        try:
            answer.start(text)
            yield answer
        finally:
            answer.cancel()


def _new_request(server: PrestoServer, session: requests.Session, seconds: float) -> PrestoRequest:
    properties = {"query_max_run_time": f"{seconds:.1f}s", "offset_clause_enabled": "true"}
    client = ClientSession(
        server.user,
        server.catalog,
        server.schema,
        "oddframe",
        properties,
        {"X-Presto-Time-Zone": "UTC", "X-Presto-Language": "en-US"},
        "NONE",
    )
    return PrestoRequest(
        server.host,
        server.port,
        client,
        session,
        http_scheme=server.scheme,
        max_attempts=1,  # the library would send anything again, also after the first rows
        request_timeout=_REQUEST_SECONDS,
    )


class PrestoAnswer:
    """The answer to one statement, under way."""

    def __init__(self, new_request: Callable[[], PrestoRequest], end: float, stopped: str) -> None:
        """Nothing is sent yet."""
        self._new_request = new_request
        self._request = new_request()
        self._end = end
        self._stopped = stopped
        self._next: str | None = None
        self._rows: list[list[Any]] = []
        self.columns: Sequence[Mapping[str, Any]] = ()

    def start(self, text: str) -> None:
        """Send the statement and wait for its first rows, or its end."""
        patience = max(self._end - monotonic(), 0.0)
        for attempt in stamina.retry_context(
            on=_LostError, attempts=_ATTEMPTS, timeout=patience, wait_initial=0.2, wait_max=2.0
        ):
            with attempt:
                self.cancel()
                self._request = self._new_request()
                self._take(self._request.post, text)
                while self._next is not None and not self._rows:
                    self._fetch()

    def pages(self) -> Iterator[list[list[Any]]]:
        """Rows as they came, some at a time."""
        while True:
            if self._rows:
                yield self._rows
            if self._next is None:
                return
            self._fetch()

    def cancel(self) -> None:
        """Stop the statement if it still runs; whether the server hears it changes nothing here."""
        place, self._next = self._next, None
        if place is not None:
            with suppress(requests.RequestException):
                self._request.delete(place)

    def _fetch(self) -> None:
        if monotonic() > self._end:
            raise UsageError(self._stopped)
        self._take(self._request.get, self._next)

    def _take(self, ask: Callable[[str | None], requests.Response], what: str | None) -> None:
        url = self._request.statement_url
        try:
            response = ask(what)
            if response.status_code in _BUSY:
                raise _LostError(f"the Presto server at {url} is busy or starting: HTTP {response.status_code}")
            status = self._request.process(response)
        except PrestoQueryError as error:
            self._next = None
            raise name_fault(error, self._stopped) from None
        except (requests.JSONDecodeError, KeyError, TypeError) as error:
            raise StoreError(f"what answers at {url} is no Presto server") from error
        except requests.RequestException as error:
            raise _LostError(f"no Presto server answers at {url}: {say_fault(error)}") from error
        except HttpError as error:
            raise StoreError(f"the Presto server at {url} refuses: {' '.join(str(error).split())[:200]}") from error
        self._next = status.next_uri
        self._rows = status.rows
        self.columns = status.columns or self.columns
