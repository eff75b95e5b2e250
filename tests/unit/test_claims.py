"""Claim checks of a hostile sender land as frames or with a fault, whatever their URI says and their file becomes."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.errors import UnreadableFrameError
from pipeline.ports import SourcePosition
from pipeline.run.land import Landed
from pipeline.run.message import land_message
from pipeline.run.prepared import Unreadable
from pipeline.source import claims
from pipeline.source.kafka_messages import KafkaMessage
from pipeline.source.messages import MessageRules, write_claim
from pipeline.store.originals import LocalOriginals

CONTENT = b"SIMPLE  =                    T" + bytes(range(256))
SHA = sha256(CONTENT).hexdigest()
LIMIT = 100_000


@pytest.fixture
def root(tmp_path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    (made / "frame.fits").write_bytes(CONTENT)
    return made


@pytest.fixture
def originals(tmp_path) -> LocalOriginals:
    return LocalOriginals(tmp_path / "originals")


def land(originals: LocalOriginals, root: Path, uri: str | None = None, sha: str = SHA) -> Landed:
    """What becomes of a claim check; by default of the file that is there."""
    value = write_claim(root / "frame.fits", sha, 1, "n").value
    if uri is not None:
        value = json.dumps({"uri": uri, "sha256": sha}).encode()
    message = KafkaMessage(SourcePosition("kafka:t:0", 7), value, ())
    return land_message(message, originals, MessageRules(LIMIT, (root,)))


def fault_of(landed: Landed) -> Unreadable:
    assert landed.fault is not None
    assert landed.fault.reason.encode().decode().isprintable()
    return landed.fault


def test_a_uri_with_half_a_surrogate_pair_is_a_bad_claim(originals, root):
    assert fault_of(land(originals, root, "file:///x\ud800")).code == "bad_claim"


@pytest.mark.parametrize(("name", "shown"), [("%ff", r"\udcff"), ("%1b[31m", r"\x1b[31m"), ("a%0Ab", r"a\nb")])
def test_a_reason_can_be_stored_and_shown_whatever_the_file_is_called(originals, root, name, shown):
    fault = fault_of(land(originals, root, f"file://{root}/{name}.fits"))
    assert fault.code == "claim_missing"
    assert f"{shown}.fits" in fault.reason


@pytest.mark.parametrize("make", [UnreadableFrameError, Unreadable])
def test_what_cannot_be_stored_or_shown_is_escaped_in_a_reason_from_anywhere(make):
    assert make("fault", "ä ✓ \\ \ud800 \x1b[1m \n \u2028").reason == "ä ✓ \\ \\ud800 \\x1b[1m \\n \\u2028"
    assert make("fault", make("fault", "\x00").reason).reason == r"\x00"


@pytest.mark.parametrize("swap", ["link", "pipe", "nothing"])
@pytest.mark.timeout(20)
def test_a_file_that_is_swapped_after_it_was_read_does_no_harm(originals, root, tmp_path, monkeypatch, swap):
    secret = tmp_path / "secret"
    secret.write_bytes(b"not theirs")
    file, check = root / "frame.fits", sha256

    def swap_and_hash(content: bytes = b""):
        file.unlink(missing_ok=True)
        if swap == "link":
            file.symlink_to(secret)
        elif swap == "pipe":
            os.mkfifo(file)
        return check(content)

    monkeypatch.setattr("hashlib.sha256", swap_and_hash)
    landed = land(originals, root)
    assert (landed.fault, landed.size, landed.place.read_bytes()) == (None, len(CONTENT), CONTENT)
    assert list(originals.ids()) == [SHA]


def test_a_file_is_read_once_and_whole_however_small_the_pieces_are(originals, root, monkeypatch):
    read, given = os.read, []

    def read_little(file: int, size: int) -> bytes:
        given.append(read(file, min(size, 7)))
        return given[-1]

    monkeypatch.setattr("os.read", read_little)
    assert land(originals, root).frame_id == SHA
    assert b"".join(given) == CONTENT


def test_a_file_that_grows_over_the_limit_while_it_is_read_is_refused(originals, root, monkeypatch):
    file, look = root / "frame.fits", os.fstat

    def look_and_grow(handle: int) -> os.stat_result:
        status = look(handle)
        with file.open("ab") as more:
            more.write(bytes(LIMIT + 1 - len(CONTENT)))
        return status

    monkeypatch.setattr("os.fstat", look_and_grow)
    assert fault_of(land(originals, root)).code == "too_many_bytes"


def test_a_file_at_the_limit_is_taken(originals, root):
    content = bytes(LIMIT)
    (root / "frame.fits").write_bytes(content)
    assert land(originals, root, sha=sha256(content).hexdigest()).size == LIMIT


def test_a_file_that_does_not_fit_in_memory_is_refused_by_name(originals, root, monkeypatch):
    def refuse(file: int, size: int) -> bytes:
        raise MemoryError

    monkeypatch.setattr(claims.os, "read", refuse)
    assert fault_of(land(originals, root)).code == "too_large"
