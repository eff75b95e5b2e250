"""Claim checks: a file named by a stranger, opened only below directories that we allow."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from pipeline.errors import TransientError, UnreadableFrameError

_PIECE = 65_536
_HERE = ("", "localhost")
_NO_FILE = frozenset({errno.ENXIO, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP})


def open_claim(uri: str, roots: Sequence[Path], max_bytes: int) -> bytes:
    """The content of a URI's file below one of the roots.

    The file is opened once, without a link in its path: what is put in its place later is never looked at.

    Raises:
        UnreadableFrameError: `bad_claim`, `claim_refused`, `claim_outside`, `claim_missing`, `claim_not_a_file`,
            `empty`, `too_many_bytes` or `too_large`.
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
            return _read(file, max_bytes)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        raise UnreadableFrameError("claim_missing", f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise UnreadableFrameError("bad_claim", f"the claim check's path cannot be one: {error}") from error
    except OSError as error:
        if error.errno in _NO_FILE:
            raise UnreadableFrameError("claim_not_a_file", f"the claim check: {error.strerror}") from error
        raise TransientError(f"cannot read the file of a claim check, {path}: {error.strerror}") from error
    except MemoryError as error:
        raise UnreadableFrameError("too_large", "the claimed file does not fit in the memory that is free") from error


def _read_uri(uri: str) -> str:
    try:
        parts = urlsplit(uri)
        path = os.fsdecode(unquote_to_bytes(parts.path))
    except ValueError as error:
        raise UnreadableFrameError("bad_claim", f"the claim check's URI cannot be read: {error}") from error
    if parts.scheme != "file" or parts.netloc not in _HERE or parts.query or parts.fragment:
        raise UnreadableFrameError("bad_claim", "a claim check's URI is file:///path, nothing else")
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


def _read(file: int, max_bytes: int) -> bytes:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableFrameError("claim_not_a_file", "the claim check points to something that is no file")
    pieces: list[bytes] = []
    size, expected = 0, status.st_size
    # One piece and its end, as a rule; but a file may grow while it is read.
    while max(size, expected) <= max_bytes and (piece := os.read(file, max(expected - size, _PIECE))):
        pieces.append(piece)
        size += len(piece)
    if max(size, expected) > max_bytes:
        raise UnreadableFrameError("too_many_bytes", f"the claimed file is over the limit of {max_bytes} bytes")
    if not size:
        raise UnreadableFrameError("empty", "the claimed file is empty")
    return b"".join(pieces)
