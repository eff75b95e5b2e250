"""Presto's errors as ours: wrong statements, a server that cannot now, a server that fails."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pipeline.errors import OddframeError, StoreError, TransientError, UsageError
from pipeline.store.sql_engine import DIVISION_BY_ZERO

if TYPE_CHECKING:
    from prestodb.exceptions import PrestoQueryError

_OUT_OF_TIME = frozenset({"EXCEEDED_TIME_LIMIT", "EXCEEDED_CPU_LIMIT"})
_PASSING = frozenset(
    {
        "ABANDONED_QUERY", "ABANDONED_TASK", "NO_NODES_AVAILABLE", "PAGE_TRANSPORT_ERROR", "PAGE_TRANSPORT_TIMEOUT",
        "REMOTE_HOST_GONE", "REMOTE_TASK_ERROR", "REMOTE_TASK_MISMATCH", "SERVER_SHUTTING_DOWN", "SERVER_STARTING_UP",
        "TOO_MANY_REQUESTS_FAILED",
    }
)  # fmt: skip
_LASTING = re.compile(r"BAD_DATA|INVALID|UNSUPPORTED|MISMATCH|UNKNOWN")
_PLACE = re.compile(r"^line \d+:\d+: ")


def name_fault(error: PrestoQueryError, stopped: str) -> OddframeError:
    """The error to raise for one of Presto's, in one line.

    Args:
        error: what the server answered.
        stopped: what to say of a statement that took too long.
    """
    # A place in the text that was sent, which is not the one the user wrote.
    said = _PLACE.sub("", " ".join(str(error.message).split()))[:300] or str(error.error_name)
    name = str(error.error_name)
    kind = str(error.error_type)
    if kind == "USER_ERROR":
        return UsageError(DIVISION_BY_ZERO if name == "DIVISION_BY_ZERO" else said)
    if name in _OUT_OF_TIME:
        return UsageError(stopped)
    if kind == "INSUFFICIENT_RESOURCES" and name.startswith("EXCEEDED"):
        # The limit is the statement's own: it meets it again each time.
        return UsageError(f"the statement needs more than Presto grants one: narrow it ({said})")
    if name in _PASSING or kind == "INSUFFICIENT_RESOURCES" or (kind == "EXTERNAL" and not _LASTING.search(name)):
        return TransientError(f"Presto cannot answer now: {said}")
    return StoreError(f"Presto failed: {said}")
