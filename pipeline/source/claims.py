"""Claim checks: a file named by a stranger, opened only below directories that we allow."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from pipeline.errors import TransientError, UnreadableFrameError

_PIECE = 1 << 20
_HERE = ("", "localhost")
_NO_FILE = frozenset({errno.ENXIO, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP})


@dataclass(frozen=True, slots=True)
class Claimed:
    """A file that was found and read once; `path` has no link in it."""

    path: Path
    frame_id: str
    size: int


def open_claim(uri: str, roots: Sequence[Path], max_bytes: int) -> Claimed:
    """Find the file of a URI below one of the roots, and hash it.

    Raises:
        UnreadableFrameError: `bad_claim`, `claim_refused`, `claim_outside`, `claim_missing`, `claim_not_a_file`,
            `empty` or `too_many_bytes`.
        TransientError: the disk does not answer.
    """
    if not roots:
        raise UnreadableFrameError("claim_refused", "claim checks are not allowed: no root is set")
    wanted = _read_uri(uri)
    try:
        path = Path(os.path.realpath(wanted))
        root = next((real for root in roots if path.is_relative_to(real := Path(os.path.realpath(root)))), None)
        # Before it is known whether the file is there: an answer would tell a stranger.
        if root is None:
            raise UnreadableFrameError("claim_outside", "the claim check points outside the roots that are allowed")
        with _open_below(root, path.relative_to(root).parts) as file:
            size, frame_id = _hash(file, max_bytes)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise UnreadableFrameError("claim_missing", f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise UnreadableFrameError("bad_claim", f"the claim check's path cannot be one: {error}") from error
    except OSError as error:
        if error.errno in _NO_FILE:
            raise UnreadableFrameError("claim_not_a_file", f"the claim check: {error.strerror}") from error
        raise TransientError(f"cannot read the file of a claim check, {path}: {error.strerror}") from error
    return Claimed(path, frame_id, size)


def _read_uri(uri: str) -> str:
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise UnreadableFrameError("bad_claim", f"the claim check's URI cannot be read: {error}") from error
    if parts.scheme != "file" or parts.netloc not in _HERE or parts.query or parts.fragment:
        raise UnreadableFrameError("bad_claim", "a claim check's URI is file:///path, nothing else")
    path = os.fsdecode(unquote_to_bytes(parts.path))
    if not path.startswith("/") or "\0" in path:
        raise UnreadableFrameError("bad_claim", "a claim check's URI has an absolute path")
    return path


@contextmanager
def _open_below(root: Path, parts: Sequence[str]) -> Iterator[int]:
    """Open a file part by part without following a link: the path was resolved, a link in it came since."""
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            # A pipe without a writer must not hold us.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_NONBLOCK if last else os.O_DIRECTORY)
            below = os.open(part, flags, dir_fd=at)
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)


def _hash(file: int, max_bytes: int) -> tuple[int, str]:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFrameError("claim_not_a_file", "the claim check points to something that is no file")
    digest, size = hashlib.sha256(), 0
    # It may grow while it is read.
    while size <= max_bytes and status.st_size <= max_bytes and (piece := os.read(file, _PIECE)):
        digest.update(piece)
        size += len(piece)
    if max(size, status.st_size) > max_bytes:
        raise UnreadableFrameError("too_many_bytes", f"the claimed file is over the limit of {max_bytes} bytes")
    if not size:
        raise UnreadableFrameError("empty", "the claimed file is empty")
    return size, digest.hexdigest()
