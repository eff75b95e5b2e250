"""An Iceberg catalogue behind its REST interface: shared by processes and machines, and with Presto."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import requests
from pydantic import ValidationError
from pyiceberg.catalog import Catalog
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.exceptions import (
    CommitStateUnknownException,
    ForbiddenError,
    OAuthError,
    RESTError,
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
    UnauthorizedError,
)
from pyiceberg.table import CommitTableResponse, Table
from pyiceberg.typedef import Identifier
from requests.adapters import HTTPAdapter

from pipeline.errors import StoreError, TransientError
from pipeline.store.http_faults import say_fault
from pipeline.store.schema import NAMESPACE

# To connect, and between two bytes of an answer, seconds: the library itself would wait for ever.
_SECONDS = (5.0, 60.0)
_LONG_ANSWER = 20_000
_BUSY = (ServerError, ServiceUnavailableError, TooManyRequestsError)
_CLOSED = (UnauthorizedError, ForbiddenError, OAuthError)


def open_rest_catalog(uri: str, warehouse: str, files: Mapping[str, str] | None = None) -> Catalog:
    """A catalogue that a server keeps.

    Args:
        uri: like http://127.0.0.1:8181.
        warehouse: its name or place, as the server knows it.
        files: how the files are reached (pyiceberg's FileIO properties), where the server does not say it.

    Raises:
        TransientError: no catalogue answers there, or it does not let us in.
        StoreError: what answers there is no catalogue.
    """
    with _name_faults(uri):
        return _SharedCatalog(NAMESPACE, uri=uri, warehouse=warehouse, **(files or {}))


class _SharedCatalog(RestCatalog):
    """Every request has a time limit, and a server that does not answer is told from one that refuses."""

    def _create_session(self) -> requests.Session:
        session: requests.Session = super()._create_session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Limited())
        session.hooks["response"].append(_forget_history)
        return session

    def create_namespace(self, *given: Any, **named: Any) -> None:
        with _name_faults(self.uri):
            super().create_namespace(*given, **named)

    def create_table(self, *given: Any, **named: Any) -> Table:
        with _name_faults(self.uri):
            table: Table = super().create_table(*given, **named)
            return table

    def table_exists(self, identifier: str | Identifier) -> bool:
        with _name_faults(self.uri):
            return bool(super().table_exists(identifier))

    def load_table(self, identifier: str | Identifier) -> Table:
        with _name_faults(self.uri):
            table: Table = super().load_table(identifier)
            return table

    @staticmethod
    def _delete_old_metadata(*given: Any) -> None:
        """The server has done it; the library would look for them and complain of each that is gone."""

    def commit_table(self, *given: Any, **named: Any) -> CommitTableResponse:
        with _name_faults(self.uri):
            answer: CommitTableResponse = super().commit_table(*given, **named)
            return answer


def _forget_history(response: requests.Response, *_: Any, **__: Any) -> requests.Response:
    """Take old snapshots out of the answer to a commit: to read thousands of them again each time takes long.

    A table that is loaded or refreshed has them all.
    """
    if response.request.method != "POST" or not response.ok or len(response.content) < _LONG_ANSWER:
        return response
    answer = response.json()
    metadata = answer.get("metadata") if isinstance(answer, dict) else None
    if isinstance(metadata, dict) and isinstance(metadata.get("snapshots"), list):
        kept = {ref["snapshot-id"] for ref in metadata.get("refs", {}).values()}
        kept.add(metadata.get("current-snapshot-id"))
        metadata["snapshots"] = [one for one in metadata["snapshots"] if one["snapshot-id"] in kept]
        metadata["snapshot-log"] = metadata["metadata-log"] = []
        # There is no other way to hand on another text than the one that came.
        response._content = json.dumps(answer).encode()  # noqa: SLF001
    return response


class _Limited(HTTPAdapter):
    def send(self, request: requests.PreparedRequest, *given: Any, **named: Any) -> requests.Response:
        if named.get("timeout") is None:
            named["timeout"] = _SECONDS
        return super().send(request, *given, **named)


@contextmanager
def _name_faults(uri: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # A catalogue without a token is asked without one; that this way will go some day is no user's business.
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    except requests.RequestException as error:
        raise TransientError(f"no Iceberg catalogue answers at {uri}: {say_fault(error)}") from error
    except CommitStateUnknownException as error:
        # Never tried again by itself: the commit may stand. Who comes back reads the table's positions first.
        raise TransientError(
            f"the Iceberg catalogue at {uri} failed in mid-commit: {_first_line(error)}; run the same command again"
        ) from error
    except _BUSY as error:
        raise TransientError(f"the Iceberg catalogue at {uri} failed: {_first_line(error)}") from error
    except _CLOSED as error:
        raise TransientError(f"the Iceberg catalogue at {uri} does not let us in: {_first_line(error)}") from error
    except (RESTError, ValidationError) as error:
        raise StoreError(f"what answers at {uri} is no Iceberg catalogue, or refuses: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
