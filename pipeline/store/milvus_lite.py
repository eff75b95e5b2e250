"""Milvus Lite, the embedded vector store: a directory that one process has open."""

from __future__ import annotations

import fcntl
import logging
import shutil
from pathlib import Path

import numpy as np
from milvus_lite.server_manager import server_manager_instance
from pymilvus import MilvusClient, MilvusException

from pipeline.errors import LockedError, StoreError
from pipeline.store.milvus_faults import first_line
from pipeline.store.vectors_milvus import DEFAULT_SET, MilvusVectors


def open_lite(path: Path, reference_set: str = DEFAULT_SET) -> MilvusVectors:
    """Milvus Lite in a directory; one process at a time.

    Raises:
        LockedError: another process has it open.
        StoreError: it cannot be read, or another version of oddframe made it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The client logs what it then raises; users get our one line instead.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    logging.getLogger("milvus_lite").setLevel(logging.CRITICAL)
    if _is_held(path):
        raise LockedError(f"{path} is open in another oddframe process; stop it first")
    _drop_broken_indexes(path)
    _drop_unborn_collections(path)
    try:
        client = MilvusClient(str(path))
    except MilvusException as error:
        raise StoreError(f"cannot open the vector store {path}: {first_line(error)}") from error
    # The client leaves its server, and with it the lock on the directory, to the end of the process.
    store = MilvusVectors(client, reference_set, lambda: server_manager_instance.release_server(str(path)))
    try:
        store.settle()
    except BaseException:
        store.close()
        raise
    return store


def _drop_broken_indexes(path: Path) -> None:
    """Remove index files that a process was killed in the middle of writing.

    Milvus Lite never opens a collection again that has one; of a file that is not there it makes a new one.
    """
    for index in path.rglob("*.idx"):
        try:
            np.load(index, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            index.unlink(missing_ok=True)


def _drop_unborn_collections(path: Path) -> None:
    """Remove directories of collections that a process was killed in the middle of creating: they bar the next try."""
    for collection in path.glob("collections/*"):
        if not (collection / "schema.json").exists() and not any(collection.rglob("*.parquet")):
            shutil.rmtree(collection)


def _is_held(path: Path) -> bool:
    """Whether a process has the directory of Milvus Lite open: it says no more than that it failed."""
    try:
        with (path / "LOCK").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
