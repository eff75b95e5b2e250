"""What went wrong on the way to a server, in the few words a user needs."""

from __future__ import annotations

import requests


def say_fault(error: requests.RequestException) -> str:
    """The cause of a request that got no answer, such as `Connection refused`: the library's text names its classes."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
