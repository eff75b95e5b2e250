"""Fixtures every test may use."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.s3 import S3Service

# A deadline measures how busy the machine is, not the code; limits on time have tests of their own.
settings.register_profile("oddframe", deadline=None)
settings.load_profile("oddframe")

REAL_DATA = "ODDFRAME_TEST_DATA"


def pytest_unconfigure() -> None:
    """Keep the summary the last thing said: a client that a failed test left open goes on complaining behind it."""
    logging.disable()


@pytest.fixture(autouse=True)
def no_kafka_client_is_left_open() -> Iterator[None]:
    """One that nobody closed asks for its topic for ever, and says so in the output of every test behind."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("kafka-io-"):
            thread.join(5.0)
            assert not thread.is_alive(), f"{thread.name} was not closed"


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real frames: where ODDFRAME_TEST_DATA says, else beside the checkout; else skip."""
    named = os.environ.get(REAL_DATA)
    root = Path(named) if named else Path(__file__).resolve().parents[1].parent / "shared" / "data"
    if root.is_dir():
        return root
    if named:
        pytest.fail(f"{REAL_DATA} names {named}, which is no folder")
    pytest.skip(f"no real frames: set {REAL_DATA} to their folder (there is none beside the checkout either)")


@pytest.fixture(scope="session")
def s3(tmp_path_factory) -> Iterator[S3Service]:
    """An S3 service, the same for the whole run; every archive in it is a prefix of its own."""
    service = S3Service(tmp_path_factory.mktemp("s3"))
    yield service
    service.stop()
