"""An archive of originals in an S3 bucket; what is read from it is fetched into a bounded directory first."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from pipeline.errors import OddframeError, StoreError, TransientError, UsageError
from pipeline.store.originals import CONTENT_NAME, LocalOriginals, name_of

# A read is a request: of small ones a large frame would take many.
_CHUNK = 16 * 2**20
# A path that was given out is left alone for so long, seconds: whoever asked may not have opened it yet.
_LENT = 3600.0
_REFUSED = re.compile(
    r"AWS Error (ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|INVALID_SIGNATURE|INVALID_CLIENT_TOKEN_ID"
    r"|MISSING_AUTHENTICATION_TOKEN|UNRECOGNIZED_CLIENT)|HTTP status 40[13]"
)
_REQUEST_ID = re.compile(r"\s*\(Request ID: [^)]*\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Connection:
    """Where a bucket is and who we are to it; no text of this object shows the secret key.

    Attributes:
        uri: `s3://bucket/prefix`.
        endpoint: address of the service, `http://host:port`; None: Amazon's.
        region: None: as the AWS environment says.
        access_key: None: as the AWS environment says; its files and roles count too.
        secret_key: with the access key.
    """

    uri: str
    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key: SecretStr | None = None

    @property
    def root(self) -> str:
        """Bucket and prefix, without a slash at the end."""
        return self.uri.removeprefix("s3://").rstrip("/")

    def open(self) -> Any:
        """A pyarrow file system; nobody is asked anything yet."""
        # Loads slowly, and workers that are handed this archive never use it.
        from pyarrow.fs import S3FileSystem  # noqa: PLC0415

        scheme, _, host = (self.endpoint or "").rstrip("/").rpartition("://")
        return S3FileSystem(
            access_key=self.access_key,
            secret_key=self.secret_key.get_secret_value() if self.secret_key else None,
            region=self.region,
            endpoint_override=host or None,
            scheme=scheme or "https",
        )


class S3Originals:
    """Content-addressed objects `prefix/ab/<sha256>`; the service is asked when it is needed, not before.

    Every method but `find_nearby` may raise:
        UsageError: the service refuses the credentials, or there is no such bucket.
        TransientError: the service does not answer.
    """

    def __init__(self, connection: S3Connection, fetched: Path, most_bytes: int) -> None:
        """Nothing is asked or made yet.

        Args:
            connection: the bucket.
            fetched: directory of the copies that were read; it may be cleared at any time.
            most_bytes: what it may hold, beside copies that were asked for within the last hour.
        """
        self._connection = connection
        self._fetched = fetched
        self._most_bytes = most_bytes

    def __getstate__(self) -> dict[str, Any]:
        """Cross to a worker without an open connection."""
        return {key: value for key, value in self.__dict__.items() if key != "_files"}

    def locate(self, frame_id: str) -> Path | None:
        """Fetch the bytes, unless they are at hand, and prove them either way; None if they are not in the archive.

        Raises:
            StoreError: what the archive holds does not hash to its name.
            TransientError: also where the copy cannot be written here.
        """
        near = self._near()
        place = near.locate(frame_id)
        # Someone may clear the directory while we look.
        with contextlib.suppress(FileNotFoundError):
            if place is not None and near.is_intact(frame_id):
                os.utime(place)
                return place
        payload = self._fetch(frame_id)
        if payload is None:
            return None
        if hashlib.sha256(payload).hexdigest() != frame_id:
            raise StoreError(f"{self._show(frame_id)} does not hash to its name; it was not used")
        self._make_room(len(payload))
        return near.replace(frame_id, payload)

    def find_nearby(self, frame_id: str) -> None:
        """None: the archive is far away, and what was fetched from it is not kept for good."""
        name_of(frame_id)

    def is_intact(self, frame_id: str) -> bool:
        """Whether the archive holds a copy that hashes to its name; reads all of it, and keeps nothing here."""
        try:
            return self._hash(frame_id) == frame_id
        except FileNotFoundError:
            return False

    def adopt(self, frame_id: str, source: Path) -> None:
        """Upload a file whose hash is known, read the object back and hash it.

        This proves that the service has taken the bytes and gives them out again unchanged; that it keeps them on
        more than one disk is its promise, not ours to see. An object of this size that is there already is proved and
        not sent again, one of another size (an upload that was cut off) is replaced.

        Raises:
            StoreError: the file or the object does not hash to `frame_id`; the file was left alone.
            OSError: the file cannot be read.
        """
        payload = source.read_bytes()
        if hashlib.sha256(payload).hexdigest() != frame_id:
            raise StoreError(f"{source} does not hash to {frame_id}; it was not uploaded")
        if self._measure(frame_id) != len(payload):
            self._send(frame_id, payload)
        if not self.is_intact(frame_id):
            raise StoreError(f"{self._show(frame_id)} does not hash to its name; the copy in {source} was left alone")

    def remove(self, frame_id: str) -> None:
        """Delete the object and what was fetched of it; the caller has proved that another copy exists."""
        self._near().remove(frame_id)
        with contextlib.suppress(FileNotFoundError), self._asking():
            self._files.delete_file(self._key(frame_id))

    def ids(self) -> Iterator[str]:
        """Every content hash in the archive: one request for a thousand, and no content is read."""
        from pyarrow.fs import FileSelector, FileType  # noqa: PLC0415 - as for the file system

        root = self._connection.root
        with self._asking():
            found = self._files.get_file_info(FileSelector(root, recursive=True, allow_not_found=True))
        for info in sorted((info for info in found if info.type == FileType.File), key=lambda info: info.base_name):
            name = info.base_name
            if CONTENT_NAME.fullmatch(name) and info.path == self._key(name):
                yield name

    def sweep(self) -> int:
        """Remove fetched copies that a process killed an hour ago or more left half written; returns how many.

        In the bucket there is nothing to see: an object appears whole or not at all. Parts of a large upload that was
        killed are invisible to this client; give the bucket a lifecycle rule that aborts incomplete uploads.
        """
        leftovers = [path for moment, _, path in self._list_copies(".*.part") if moment < time.time() - _LENT]
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)

    @cached_property
    def _files(self) -> Any:
        """The file system of a bucket that is there: later answers of "not found" are about objects."""
        from pyarrow.fs import FileType  # noqa: PLC0415 - as for the file system

        bucket = self._connection.root.partition("/")[0]
        files = self._connection.open()
        with self._asking():
            found = files.get_file_info(bucket).type
        if found != FileType.Directory:
            raise UsageError(f"{self._where()} has no bucket {bucket}; make it, or mend archive.s3_uri")
        return files

    def _fetch(self, frame_id: str) -> bytes | None:
        try:
            return b"".join(self._read(frame_id))
        except FileNotFoundError:
            return None

    def _hash(self, frame_id: str) -> str:
        digest = hashlib.sha256()
        for chunk in self._read(frame_id):
            digest.update(chunk)
        return digest.hexdigest()

    def _read(self, frame_id: str) -> Iterator[bytes]:
        with self._asking(), self._files.open_input_stream(self._key(frame_id)) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk

    def _send(self, frame_id: str, payload: bytes) -> None:
        with self._asking(), self._files.open_output_stream(self._key(frame_id)) as stream:
            stream.write(payload)

    def _measure(self, frame_id: str) -> int | None:
        """Size of an object, None where there is none."""
        with self._asking():
            size: int | None = self._files.get_file_info(self._key(frame_id)).size
        return size

    def _near(self) -> LocalOriginals:
        # Anew each time: it remembers directories it made, and these may be cleared.
        return LocalOriginals(self._fetched)

    def _make_room(self, size: int) -> None:
        """Drop the copies that nobody has asked for longest, until one of this size fits."""
        copies, recent = self._list_copies("*"), time.time() - _LENT
        held = sum(length for _, length, _ in copies)
        for moment, length, path in copies:
            if held + size <= self._most_bytes or moment > recent:
                return
            path.unlink(missing_ok=True)
            held -= length

    def _list_copies(self, pattern: str) -> list[tuple[float, int, Path]]:
        """When each was asked for last, its size and its path, longest ago first."""
        copies = []
        for path in self._fetched.glob(f"??/{pattern}"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                copies.append((status.st_mtime, status.st_size, path))
        return sorted(copies)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Say what an answer of the service means to a user; an object that is not there is left to the caller."""
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._explain(" ".join(_REQUEST_ID.sub("", str(error)).split())) from error

    def _explain(self, said: str) -> OddframeError:
        if _REFUSED.search(said):
            advice = "set archive.s3_access_key and archive.s3_secret_key, or the usual AWS variables"
            return UsageError(f"{self._where()} refuses the credentials for {self._connection.uri}; {advice} ({said})")
        if "NO_SUCH_BUCKET" in said:
            return UsageError(f"{self._where()} has no bucket for {self._connection.uri}; mend archive.s3_uri ({said})")
        return TransientError(f"{self._where()} does not answer for {self._connection.uri}: {said}")

    def _where(self) -> str:
        return self._connection.endpoint or "Amazon S3"

    def _key(self, frame_id: str) -> str:
        return f"{self._connection.root}/{name_of(frame_id)}"

    def _show(self, frame_id: str) -> str:
        return f"s3://{self._key(frame_id)}"
