"""Compaction on a Milvus server: all collections at once, then one wait for all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pymilvus import MilvusClient

from pipeline.ports import VectorCompaction
from pipeline.store.milvus_faults import Faults

_SECONDS_BETWEEN_LOOKS = 0.5
_FINISHED = "Completed"


def compact_collections(client: MilvusClient, collections: Sequence[str], seconds: float) -> list[VectorCompaction]:
    """Seal the growing segments of collections and have small ones merged and deleted rows dropped.

    The server goes on by itself when the time is up; nothing is lost by not waiting.

    Args:
        client: of a server.
        collections: their names.
        seconds: longest wait for all of them together.

    Raises:
        TransientError: the server did not answer or refused.
    """
    deadline = time.monotonic() + seconds
    with Faults("compact"):
        jobs: dict[str, int] = {}
        before: dict[str, int] = {}
        for collection in collections:
            # Only sealed segments are merged.
            client.flush(collection)
            before[collection] = _count_segments(client, collection)
            jobs[collection] = client.compact(collection)
        waiting = set(collections)
        while waiting := {name for name in waiting if client.get_compaction_state(jobs[name]) != _FINISHED}:
            if time.monotonic() >= deadline:
                break
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return [
            VectorCompaction(
                collection=name,
                state="unfinished" if name in waiting else "done",
                segments_before=before[name],
                segments_after=_count_segments(client, name),
            )
            for name in collections
        ]


def _count_segments(client: MilvusClient, collection: str) -> int:
    return len(client.list_persistent_segments(collection))
