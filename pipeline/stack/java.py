"""The Java that the services run on, found or asked for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import UsageError

OLDEST, NEWEST = 17, 23
"""Kafka asks for 17; Presto 0.287 cannot start from 24 on, where the security manager is gone."""

_PLACES = ("/usr/lib/jvm", "/Library/Java/JavaVirtualMachines", "/opt/java")
_VERSION = re.compile(r'version "(\d+)')


def find_java() -> Path:
    """The `java` of a JDK of a version that all services run on.

    Raises:
        UsageError: there is none; the text says what to install.
    """
    seen: list[str] = []
    for java in _candidates():
        version = _read_version(java)
        if OLDEST <= version <= NEWEST and (java.parent / "javac").exists():
            return java
        seen.append(f"{java} is {version or 'no Java'}")
    found = f" ({'; '.join(seen)})" if seen else ""
    raise UsageError(
        f"the local stack needs a JDK {OLDEST} to {NEWEST}{found}; install one (Debian: apt install"
        f" openjdk-17-jdk-headless) or point JAVA_HOME at it"
    )


def find_maven() -> Path:
    """The `mvn` command.

    Raises:
        UsageError: there is none; the text says what to install.
    """
    found = shutil.which("mvn")
    if found is None:
        raise UsageError("the local stack is downloaded with Maven, and there is no mvn; install maven")
    return Path(found)


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield Path(on_path).resolve()
    for place in _PLACES:
        yield from sorted(Path(place).glob("*/bin/java"))
        yield from sorted(Path(place).glob("*/Contents/Home/bin/java"))


def _read_version(java: Path) -> int:
    try:
        told = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = _VERSION.search(told.stderr + told.stdout)
    return int(match.group(1)) if match else 0
