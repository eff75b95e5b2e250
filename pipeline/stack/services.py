"""What each service of the local stack is: how it is made ready, started, asked whether it works, and stopped."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.stack import probes
from pipeline.stack.java import find_java
from pipeline.stack.kafka import make_kafka_ready
from pipeline.stack.layout import Layout, find_source
from pipeline.stack.milvus import make_milvus_ready

POOL = "oddframe"
PRESTO_CATALOG = "lake"


def _nothing() -> None:
    return


@dataclass(frozen=True, slots=True)
class Service:
    """One service.

    Attributes:
        ports: must be free before it starts; the first one is where clients find it.
        probe: raises `probes.NotReadyError` while it does not do its work.
        prepare: what is needed before every start.
        after: services that must answer before this one is started.
        seconds: longest start on a slow machine.
        seconds_to_stop: after which it is killed.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    ports: tuple[int, ...]
    probe: Callable[[], object]
    prepare: Callable[[], None] = _nothing
    after: tuple[str, ...] = ()
    seconds: float = 120.0
    seconds_to_stop: float = 15.0
    url: str = field(default="")


def list_services(layout: Layout, home: Path) -> list[Service]:
    """Every service in the order they are started; the worker runs the flows of `home`.

    Raises:
        UsageError: there is no Java to run them on.
    """
    java = str(find_java())
    return [
        _kafka(layout, java),
        _catalog(layout, java),
        _milvus(layout),
        _prefect(layout),
        _presto(layout, java),
        _worker(layout, home),
    ]


def _kafka(layout: Layout, java: str) -> Service:
    place, port = layout.place("kafka"), layout.port("kafka")
    jars = f"{layout.cache / 'kafka'}/*"
    properties = place / "etc" / "server.properties"
    logging = f"-Dlog4j2.configurationFile={find_source('kafka/log4j2.properties')}"
    return Service(
        "kafka",
        (java, "-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", logging, "-cp", jars, "kafka.Kafka", str(properties)),
        _environment(),
        place,
        (port, layout.port("kafka_controller")),
        lambda: probes.ask_kafka(port),
        prepare=lambda: make_kafka_ready(layout, java, properties),
        url=f"127.0.0.1:{port}",
    )


def _catalog(layout: Layout, java: str) -> Service:
    place, port = layout.place("catalog"), layout.port("catalog")
    database = f"jdbc:sqlite:{place}/catalog.db?journal_mode=WAL&busy_timeout=15000&synchronous=FULL"
    environment = _environment() | {
        "CATALOG_CATALOG__IMPL": "org.apache.iceberg.jdbc.JdbcCatalog",
        "CATALOG_URI": database,
        # More than one connection to SQLite and writers lock each other out for good.
        "CATALOG_CLIENTS": "1",
        "CATALOG_JDBC_USER": "oddframe",
        "CATALOG_JDBC_PASSWORD": "oddframe",
        "CATALOG_JDBC_SCHEMA__VERSION": "V1",
        "CATALOG_WAREHOUSE": f"file://{layout.warehouse}",
        "CATALOG_IO__IMPL": "org.apache.iceberg.hadoop.HadoopFileIO",
        "CATALOG_REST_PORT": str(port),
    }
    options = ("-Xmx192m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
    jars = f"{layout.cache / 'catalog'}/*"
    return Service(
        "catalog",
        (java, *options, "-cp", jars, "org.apache.iceberg.rest.RESTCatalogServer"),
        environment,
        place,
        (port,),
        lambda: probes.ask_http(f"http://127.0.0.1:{port}/v1/config"),
        prepare=lambda: layout.warehouse.mkdir(parents=True, exist_ok=True),
        url=f"http://127.0.0.1:{port}",
    )


def _milvus(layout: Layout) -> Service:
    place, port = layout.place("milvus"), layout.port("milvus")
    binaries = layout.cache / "milvus" / "bin"
    environment = _environment() | {
        "DEPLOY_MODE": "STANDALONE",
        "METRICS_PORT": str(layout.port("milvus_metrics")),
        "MILVUSCONF": str(place / "etc"),
        "MILVUS_RUN_DIR": str(place / "run"),
        # What its own settings say of etcd's ports is not looked at.
        "ETCD_CONFIG_PATH": str(place / "etc" / "etcd.yaml"),
        "LD_LIBRARY_PATH": str(binaries),
    }
    ports = tuple(number for name, number in layout.ports().items() if name.startswith(("milvus", "etcd")))
    return Service(
        "milvus",
        (str(binaries / "milvus"), "run", "standalone"),
        environment,
        place,
        ports,
        lambda: probes.ask_milvus(port, layout.port("milvus_metrics"), layout.milvus_token),
        prepare=lambda: make_milvus_ready(layout),
        url=f"http://127.0.0.1:{port}",
    )


def _presto(layout: Layout, java: str) -> Service:
    place, port = layout.place("presto"), layout.port("presto")
    etc = place / "etc"

    def prepare() -> None:
        layout.render("presto/etc/config.properties", etc / "config.properties")
        layout.render("presto/etc/iceberg.properties", etc / "catalog" / f"{PRESTO_CATALOG}.properties")
        _link_plugin(layout)

    properties = {
        "node.environment": "local",
        "node.id": "local",
        "node.internal-address": "127.0.0.1",
        "node.bind-ip": "127.0.0.1",
        "node.data-dir": str(place / "data"),
        "log.levels-file": str(find_source("presto/etc/log.properties")),
        "plugin.dir": str(place / "plugin"),
        "catalog.config-dir": str(etc / "catalog"),
        "config": str(etc / "config.properties"),
    }
    options = (f"@{find_source('presto/etc/jvm.config')}", *(f"-D{name}={value}" for name, value in properties.items()))
    jars = f"{layout.cache / 'presto-server'}/*"
    return Service(
        "presto",
        (java, *options, "-cp", jars, "com.facebook.presto.server.PrestoServer"),
        _environment(),
        place,
        (port, layout.port("presto_admin")),
        lambda: probes.ask_presto(port, PRESTO_CATALOG),
        prepare=prepare,
        after=("catalog",),
        url=f"http://127.0.0.1:{port}",
    )


def _link_plugin(layout: Layout) -> None:
    # Presto loads whatever directory it finds there: it gets one with this plugin alone.
    plugins = layout.place("presto") / "plugin"
    plugins.mkdir(parents=True, exist_ok=True)
    link = plugins / "iceberg"
    if link.is_symlink():
        link.unlink()
    link.symlink_to(layout.cache / "presto-iceberg")


def _prefect(layout: Layout) -> Service:
    port = layout.port("prefect")
    return Service(
        "prefect",
        (sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)),
        _prefect_environment(layout),
        layout.place("prefect"),
        (port,),
        lambda: probes.ask_http(f"http://127.0.0.1:{port}/api/health"),
        url=f"http://127.0.0.1:{port}",
    )


def _worker(layout: Layout, home: Path) -> Service:
    port = layout.port("prefect")
    # What runs there uses the services that run beside it.
    environment = _prefect_environment(layout) | {
        "ODDFRAME_HOME": str(home),
        "ODDFRAME_PROFILE": "full",
        "ODDFRAME_STACK__FIRST_PORT": str(layout.first_port),
        "ODDFRAME_STACK__DATA": str(layout.data.absolute()),
    }
    if layout.password is not None:
        environment["ODDFRAME_STACK__PASSWORD"] = layout.password.get_secret_value()
    # One run at a time: the worker is there before anybody deploys, and a pool that it makes has no limit.
    options = ("--pool", POOL, "--type", "process", "--name", "local", "--limit", "1")
    return Service(
        "worker",
        (sys.executable, "-m", "prefect", "worker", "start", *options),
        environment,
        layout.place("worker"),
        (),
        lambda: probes.ask_worker(
            f"http://127.0.0.1:{port}/api", POOL, layout.prefect_login.get("PREFECT_API_AUTH_STRING", "")
        ),
        after=("prefect",),
    )


def _prefect_environment(layout: Layout) -> dict[str, str]:
    # Another server's profile, key or address would win over this one's.
    kept = {name: value for name, value in _environment().items() if not name.startswith("PREFECT_")}
    login = layout.prefect_login
    asked = {"PREFECT_SERVER_API_AUTH_STRING": login["PREFECT_API_AUTH_STRING"]} if login else {}
    return (
        kept
        | login
        | asked
        | {
            "PREFECT_HOME": str(layout.place("prefect")),
            "PREFECT_API_URL": f"http://127.0.0.1:{layout.port('prefect')}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }
    )


def _environment() -> dict[str, str]:
    return dict(os.environ)
