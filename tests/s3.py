"""An S3 service for tests: moto's server in a process of its own, on a loopback port that nobody has."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import boto3
from pyarrow.fs import S3FileSystem
from pydantic import SecretStr

from pipeline.store.originals_s3 import S3Connection

_SECONDS = 60.0
_KEY, _SECRET = "archivist", "not-to-be-shown"
_STARTED = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")
_ASKED = re.compile(r'"([A-Z]+ /archive\S*) HTTP/')


class S3Service:
    """A service with one bucket, and what it was asked."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "moto.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.endpoint = self._wait()
        self.files("archive", allow_bucket_creation=True).create_dir("archive")

    def stop(self) -> None:
        """End it, with all it holds."""
        self._process.kill()
        self._process.wait()

    def connect(self, bucket: str = "archive") -> S3Connection:
        """A place of its own in the bucket."""
        return S3Connection(
            uri=f"s3://{bucket}/{uuid4().hex}",
            endpoint=self.endpoint,
            region="us-east-1",
            access_key=_KEY,
            secret_key=SecretStr(_SECRET),
        )

    def describe(self, connection: S3Connection) -> dict[str, str]:
        """The same place as settings of the archive."""
        return {
            "s3_uri": connection.uri,
            "s3_endpoint": self.endpoint,
            "s3_region": "us-east-1",
            "s3_access_key": _KEY,
            "s3_secret_key": _SECRET,
        }

    def files(self, user: str = _KEY, **options: bool) -> S3FileSystem:
        """The bucket, without the code that is tested."""
        host = self.endpoint.removeprefix("http://")
        return S3FileSystem(
            access_key=user,
            secret_key=_SECRET,
            region="us-east-1",
            endpoint_override=host,
            scheme="http",
            **options,
        )

    def write(self, key: str, content: bytes) -> None:
        """Put an object there, or in the place of another."""
        with self.files().open_output_stream(key) as stream:
            stream.write(content)

    @contextmanager
    def listen(self, method: str) -> Iterator[list[str]]:
        """The requests of this method that come in while the block runs; filled in at its end."""
        start, asked = self._log.stat().st_size, list[str]()
        yield asked
        text = self._log.read_bytes()[start:].decode()
        asked += [line for line in _ASKED.findall(text) if line.startswith(f"{method} ")]

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """It takes connections and says nothing."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def admit(self) -> tuple[str, SecretStr]:
        """A user whose keys are good where others are refused."""
        options = {"region_name": "us-east-1", "aws_access_key_id": _KEY, "aws_secret_access_key": _SECRET}
        users, name = boto3.client("iam", endpoint_url=self.endpoint, **options), uuid4().hex
        users.create_user(UserName=name)
        anything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
        users.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=json.dumps(anything))
        made = users.create_access_key(UserName=name)["AccessKey"]
        return made["AccessKeyId"], SecretStr(made["SecretAccessKey"])

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """It asks who we are, and knows none but those it admitted."""
        self._set_free_requests("0")
        try:
            yield
        finally:
            self._set_free_requests("Infinity")

    def _set_free_requests(self, count: str) -> None:
        request = urllib.request.Request(  # noqa: S310 - our own address
            f"{self.endpoint}/moto-api/reset-auth", data=count.encode(), headers={"Content-Type": "text/plain"}
        )
        with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310
            return

    def _wait(self) -> str:
        deadline = time.monotonic() + _SECONDS
        while True:
            text = self._log.read_text(encoding="utf-8")
            if found := _STARTED.search(text):
                return found.group(1)
            assert self._process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
