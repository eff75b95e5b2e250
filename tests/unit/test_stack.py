"""The parts of the local stack that need none of its services."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipeline.errors import StoreError, TransientError, UsageError
from pipeline.stack import downloads, java
from pipeline.stack.layout import Layout, find_source
from pipeline.stack.milvus import fill_template
from pipeline.stack.probes import NotReadyError
from pipeline.stack.processes import Processes
from pipeline.stack.services import Service
from pipeline.stack.supervisor import Supervisor

TEMPLATE = """
etcd:
  endpoints: localhost:{{ etcd_port(int): 2379 }}
  data:
    dir: {{ etcd_data_dir }}
  log:
    level: {{ etcd_log_level: info }}
proxy:
  port: {{ proxy_port(int): 19530 }}
  timeTickInterval: 200
queryNode:
  port: {{ query_node_port(int): 21123 }}
  segcore:
    interimIndex:
      enableIndex: true
rootCoord: {port: 1}
queryCoord: {port: 1}
indexNode: {port: 1}
dataCoord: {port: 1, segment: {maxSize: 512}}
dataNode: {port: 1}
common:
  gracefulStopTimeout: 1800
"""


@pytest.fixture
def layout(tmp_path) -> Layout:
    return Layout(tmp_path / "data", tmp_path / "cache", 20_000)


@pytest.fixture
def processes(tmp_path):
    opened = Processes(tmp_path / "run", tmp_path / "logs")
    yield opened
    opened.stop("one", 1)


def sleep(seconds: int = 60) -> tuple[str, ...]:
    return (sys.executable, "-c", f"import time; time.sleep({seconds})")


def service(tmp_path: Path, name: str = "one", command: tuple[str, ...] | None = None, **more) -> Service:
    values = {"ports": (), "probe": lambda: None} | more
    return Service(name, command or sleep(), dict(os.environ), tmp_path / name, **values)


def test_every_port_is_another(layout):
    ports = layout.ports()
    assert len(set(ports.values())) == len(ports)
    assert min(ports.values()) == 20_000


def test_configuration_is_filled_in_and_leaves_no_blank(layout):
    for source in ("kafka/server.properties", "presto/etc/config.properties", "presto/etc/iceberg.properties"):
        text = layout.render(source, layout.place("x") / "etc" / Path(source).name).read_text()
        assert "${" not in text
    assert f"listeners=PLAINTEXT://127.0.0.1:{layout.port('kafka')}," in (
        layout.render("kafka/server.properties", layout.place("kafka") / "etc" / "s").read_text()
    )


def test_milvus_gets_our_ports_and_the_defaults_of_its_template(layout):
    filled = fill_template(TEMPLATE, layout)
    assert filled["proxy"] == {"port": layout.port("milvus"), "timeTickInterval": 20, "ip": "127.0.0.1"}
    assert filled["etcd"]["endpoints"] == f"localhost:{layout.port('etcd')}"
    assert filled["etcd"]["log"]["level"] == "info"
    assert filled["queryNode"]["segcore"]["interimIndex"]["enableIndex"] is False
    assert filled["common"]["gracefulStopTimeout"] == 5
    assert filled["dataCoord"]["segment"] == {"maxSize": 128}
    assert yaml.safe_dump(filled)


def test_every_jar_has_one_hash_and_every_set_has_jars():
    hashes = downloads.read_hashes()
    assert {name.split("/")[0] for name in hashes} == {jars.name for jars in downloads.JARS}
    assert all(len(digest) == 64 for digest in hashes.values())


@pytest.mark.parametrize("what", ["another", "more", "less"])
def test_a_jar_that_is_not_the_committed_one_is_refused(tmp_path, what):
    (tmp_path / "a.jar").write_bytes(b"a")
    (tmp_path / "b.jar").write_bytes(b"b")
    hashes = {f"x/{jar.name}": downloads._hash(jar) for jar in tmp_path.glob("*.jar")}
    downloads._check_jars("x", tmp_path, hashes)
    if what == "another":
        (tmp_path / "b.jar").write_bytes(b"c")
    elif what == "more":
        (tmp_path / "c.jar").write_bytes(b"c")
    else:
        (tmp_path / "b.jar").unlink()
    with pytest.raises(StoreError, match=r"x/[bc]\.jar"):
        downloads._check_jars("x", tmp_path, hashes)


def test_a_download_that_failed_leaves_nothing_that_looks_whole(tmp_path):
    making = downloads._making(tmp_path / "kafka")
    (making.__enter__() / "a.jar").write_bytes(b"a")
    making.__exit__(TransientError, TransientError("cut off"), None)
    assert list(tmp_path.iterdir()) == []
    with downloads._making(tmp_path / "kafka") as target:
        (target / "a.jar").write_bytes(b"a")
    assert [path.name for path in (tmp_path / "kafka").iterdir()] == ["a.jar"]


def test_without_java_or_maven_the_words_are_clear(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(java, "_PLACES", ())
    with pytest.raises(UsageError, match="needs a JDK 17 to 23; install one"):
        java.find_java()
    with pytest.raises(UsageError, match="install maven"):
        java.find_maven()


@pytest.mark.parametrize(
    ("version", "good"), [("17.0.15", True), ("21.0.1", True), ("25", False), ("1.8.0_402", False)]
)
def test_a_java_that_is_too_old_or_too_new_is_passed_over(monkeypatch, tmp_path, version, good):
    home = tmp_path / "jdk"
    (home / "bin").mkdir(parents=True)
    for name in ("java", "javac"):
        (home / "bin" / name).write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
        (home / "bin" / name).chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(java, "_PLACES", ())
    if good:
        assert java.find_java() == home / "bin" / "java"
    else:
        with pytest.raises(UsageError, match="JDK 17 to 23"):
            java.find_java()


def test_a_process_is_found_again_by_another_command_and_stopped(tmp_path, processes):
    processes.start("one", sleep(), os.environ, tmp_path)
    again = Processes(tmp_path / "run", tmp_path / "logs")
    running = again.find("one")
    assert running is not None
    assert running.memory > 0
    assert again.stop("one", 10)
    assert processes.find("one") is None


def test_a_process_that_was_killed_is_not_running(tmp_path, processes):
    processes.start("one", sleep(), os.environ, tmp_path)
    os.kill(processes.find("one").pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while processes.find("one") is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert processes.find("one") is None


def test_a_number_that_another_process_has_by_now_is_not_ours(tmp_path, processes):
    """After a restart of the machine the number in the note may be anybody's: it must not be killed."""
    stranger = subprocess.Popen(sleep(), start_new_session=True)
    try:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "one.json").write_text(f'{{"pid": {stranger.pid}, "started": 1000.0}}')
        assert processes.find("one") is None
        processes.stop("one", 1)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_one_that_does_not_listen_to_sigterm_is_killed_with_what_it_started(tmp_path, processes):
    deaf = "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    child = f"c = subprocess.Popen([sys.executable, '-c', '{deaf} time.sleep(60)']); print(c.pid, flush=True);"
    processes.start("one", (sys.executable, "-c", f"{deaf} {child} time.sleep(60)"), os.environ, tmp_path)
    deadline = time.monotonic() + 10
    while not (said := processes.log("one").read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes.stop("one", 0.5)
    deadline = time.monotonic() + 5
    while _is_alive(int(said)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(int(said))


def _is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_services_start_in_order_and_stop_the_other_way_round(tmp_path, layout):
    told: list[tuple[str, str]] = []
    supervisor = Supervisor(layout, [service(tmp_path, "a"), service(tmp_path, "b", after=("a",))])
    supervisor.start(lambda *line: told.append(line))
    assert told == [("a", "starting"), ("a", "ready"), ("b", "starting"), ("b", "ready")]
    told.clear()
    supervisor.start(lambda *line: told.append(line))
    assert told == [("a", "running"), ("a", "ready"), ("b", "running"), ("b", "ready")]
    told.clear()
    supervisor.stop(lambda *line: told.append(line))
    assert told == [("b", "stopping"), ("b", "stopped"), ("a", "stopping"), ("a", "stopped")]
    assert [state.state for state in supervisor.describe()] == ["stopped", "stopped"]


def test_one_that_ends_at_once_is_reported_with_its_last_words(tmp_path, layout):
    def never() -> None:
        raise NotReadyError("nobody there")

    dying = service(tmp_path, command=(sys.executable, "-c", "raise SystemExit('the disk is on fire')"), probe=never)
    with pytest.raises(TransientError, match="one ended while it started: the disk is on fire"):
        Supervisor(layout, [dying]).start(print)


def test_one_that_never_answers_is_given_up(tmp_path, layout):
    def never() -> None:
        raise NotReadyError("still thinking")

    supervisor = Supervisor(layout, [service(tmp_path, probe=never, seconds=0.5)])
    with pytest.raises(TransientError, match=r"did not answer within 0 s \(still thinking\); see .*one\.log"):
        supervisor.start(print)
    assert [state.state for state in supervisor.describe()] == ["not ready"]
    supervisor.stop(print)


def test_a_port_that_is_taken_is_named(tmp_path, layout):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port}, wanted for one, is taken"):
            Supervisor(layout, [service(tmp_path, ports=(port,))]).start(print)


def test_the_configuration_is_where_it_is_looked_for():
    assert find_source("kafka/pom.xml").is_file()
    with pytest.raises(StoreError, match="install oddframe again"):
        find_source("no/such")
