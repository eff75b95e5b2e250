"""What pymilvus raises, as our errors."""

from __future__ import annotations

import grpc
from pymilvus import MilvusException

from pipeline.errors import TransientError


class Faults:
    """Context manager around one call; the client has retried what it could by the time an error comes out."""

    def __init__(self, action: str) -> None:
        self._action = action

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (MilvusException, grpc.RpcError)):
            raise TransientError(f"vector store, {self._action}: {first_line(error)}") from error


def first_line(error: Exception) -> str:
    """The first line of what a client raised: the others are its own traceback."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
