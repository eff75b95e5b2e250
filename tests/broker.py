"""A Kafka broker of a test's own, to be asked for passwords or killed: the stack's jars, ports that nobody has."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from pipeline.errors import OddframeError
from pipeline.source.connection import KafkaConnection, open_admin
from pipeline.stack.java import find_java
from pipeline.stack.layout import Layout, find_source
from tests.ports import find_free_ports

_CLUSTER = "b2RkZnJhbWUtdGVzdC1vbg"
_SECONDS = 60.0


class Broker:
    """Kafka in a directory, started, killed and started again on the same ports."""

    def __init__(self, directory: Path, cache: Path, template: str = "kafka/server.properties") -> None:
        self.layout = Layout(directory, cache, find_free_ports(3))
        self.directory = directory / "kafka"
        self._properties = self.directory / "etc" / "server.properties"
        self._template = template
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def plain(self) -> KafkaConnection:
        """The way in that asks for nothing."""
        return KafkaConnection(bootstrap=f"127.0.0.1:{self.layout.port('kafka')}", seconds=3.0)

    @property
    def log(self) -> str:
        """What it said."""
        return (self.directory / "log.txt").read_text(encoding="utf-8", errors="replace")

    def prepare(self, scram: dict[str, str] | None = None) -> None:
        """Write the configuration and format the storage, with users of SCRAM in it."""
        self.layout.render(self._template, self._properties)
        arguments = ["format", "-t", _CLUSTER, "-c", str(self._properties), "--ignore-formatted"]
        for user, password in (scram or {}).items():
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                arguments += ["--add-scram", f"{mechanism}=[name={user},password={password}]"]
        done = subprocess.run(
            [*self._java("-Xmx128m"), "kafka.tools.StorageTool", *arguments], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        """Start it without waiting."""
        logging = f"-Dlog4j2.configurationFile={find_source('kafka/log4j2.properties')}"
        options = ("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", logging)
        with (self.directory / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java(*options), "kafka.Kafka", str(self._properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + _SECONDS
        while True:
            with suppress(OddframeError):
                open_admin(self.plain).close()
                return
            ended = self._process is not None and self._process.poll() is not None
            assert not ended, self.log[-2000:]
            assert time.monotonic() < deadline, self.log[-2000:]

    def kill(self) -> None:
        """Kill it as a power cut would."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Stop it for a while, or have it go on."""
        assert self._process is not None
        os.kill(self._process.pid, number)

    def _java(self, *options: str) -> list[str]:
        return [str(find_java()), *options, "-cp", f"{self.layout.cache / 'kafka'}/*"]


def make_certificates(etc: Path) -> Path:
    """An authority and a server's certificate for this machine; returns the authority's."""
    etc.mkdir(parents=True, exist_ok=True)
    key = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    _openssl("req", "-x509", *key, "-subj", "/CN=authority", "-keyout", etc / "ca.key", "-out", etc / "ca.crt")
    _openssl("req", *key[:3], "-subj", "/CN=broker", "-keyout", etc / "server.key", "-out", etc / "server.csr")
    names = etc / "names.cnf"
    names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n", encoding="utf-8")
    signer = ("-CA", etc / "ca.crt", "-CAkey", etc / "ca.key", "-CAcreateserial", "-extfile", names, "-days", "2")
    _openssl("x509", "-req", "-in", etc / "server.csr", *signer, "-out", etc / "server.crt")
    parts = [(etc / name).read_text(encoding="utf-8") for name in ("server.key", "server.crt", "ca.crt")]
    (etc / "server.pem").write_text("".join(parts), encoding="utf-8")
    return etc / "ca.crt"


def write_users(etc: Path, users: dict[str, str]) -> None:
    """Users of PLAIN, in the file that the broker's configuration points to."""
    entries = " ".join(f'user_{name}="{password}"' for name, password in users.items())
    file = etc / "users.properties"
    file.touch(mode=0o600)
    module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    file.write_text(f"plain={module} {entries};\n", encoding="utf-8")


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
