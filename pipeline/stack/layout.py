"""Where the local stack lies and listens: directories, ports, the committed configuration."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from string import Template

from pydantic import SecretStr

from pipeline.errors import StoreError

_HERE = Path(__file__).resolve()
_SOURCES = (
    _HERE.parent / "local",  # an installed package carries the directory inside it
    _HERE.parents[2] / "deploy" / "local",  # a checkout has it beside the package
)

_PORTS = (
    "kafka",
    "kafka_controller",
    "kafka_sasl",
    "catalog",
    "presto",
    "presto_admin",
    "milvus",
    "milvus_metrics",
    "milvus_proxy_internal",
    "milvus_root_coord",
    "milvus_query_coord",
    "milvus_query_node",
    "milvus_index_coord",
    "milvus_index_node",
    "milvus_data_coord",
    "milvus_data_node",
    "etcd",
    "etcd_peer",
    "prefect",
)


@dataclass(frozen=True, slots=True)
class Layout:
    """Directories and ports of one local stack.

    Attributes:
        data: all state of its services.
        cache: what was downloaded; shared by every stack of this user.
        first_port: the services listen on this port and the next ones, on loopback.
        password: what Prefect and Milvus ask for, of users `oddframe` and `root`; None: they ask for nothing.
    """

    data: Path
    cache: Path
    first_port: int
    password: SecretStr | None = None

    @property
    def prefect_login(self) -> dict[str, str]:
        """What Prefect's clients need in their environment, besides its address."""
        return {} if self.password is None else {"PREFECT_API_AUTH_STRING": f"oddframe:{_show(self.password)}"}

    @property
    def milvus_token(self) -> str:
        """What Milvus's clients say; empty where nothing is asked."""
        return "" if self.password is None else f"root:{_show(self.password)}"

    @property
    def warehouse(self) -> Path:
        """Where the tables' files are."""
        return self.data / "warehouse"

    @property
    def logs(self) -> Path:
        """One log a service."""
        return self.data / "logs"

    @property
    def run(self) -> Path:
        """One note a running process."""
        return self.data / "run"

    def port(self, name: str) -> int:
        """The port of this name."""
        return self.first_port + _PORTS.index(name)

    def ports(self) -> dict[str, int]:
        """Every port, by name."""
        return {name: self.port(name) for name in _PORTS}

    def place(self, service: str) -> Path:
        """Data directory of a service."""
        return self.data / service

    def render(self, source: str, target: Path) -> Path:
        """Write a committed configuration file with the ports and directories of this stack in it."""
        values = {name: str(port) for name, port in self.ports().items()}
        text = find_source(source).read_text(encoding="utf-8")
        target.parent.mkdir(parents=True, exist_ok=True)
        filled = Template(text).substitute(values, data=target.parent.parent, warehouse=self.warehouse)
        target.write_text(filled, encoding="utf-8")
        return target


def find_cache() -> Path:
    """Where downloads are kept for every stack of this user, after the XDG convention."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "oddframe" / "stack"


def find_source(name: str) -> Path:
    """A file of `deploy/local`.

    Raises:
        StoreError: this installation has none.
    """
    for source in _SOURCES:
        if (source / name).exists():
            return source / name
    raise StoreError(f"this installation has no deploy/local/{name}: install oddframe again")


def _show(secret: SecretStr) -> str:
    return secret.get_secret_value()
