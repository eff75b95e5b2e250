"""Kafka's storage and configuration."""

from __future__ import annotations

import subprocess
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.stack.layout import Layout

_CLUSTER = "b2RkZnJhbWUtbG9jYWwtMQ"
"""22 letters of base64, as Kafka wants an id; every local stack is a cluster of its own."""


def make_kafka_ready(layout: Layout, java: str, properties: Path) -> None:
    """Write the configuration; format the storage on the first start.

    Raises:
        StoreError: the storage could not be formatted.
    """
    layout.render("kafka/server.properties", properties)
    if (layout.place("kafka") / "log" / "meta.properties").exists():
        return
    jars = f"{layout.cache / 'kafka'}/*"
    command = [java, "-Xmx128m", "-cp", jars, "kafka.tools.StorageTool", "format"]
    command += ["-t", _CLUSTER, "-c", str(properties), "--ignore-formatted"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
        raise StoreError(f"Kafka's storage could not be formatted: {lines[-1]}")
