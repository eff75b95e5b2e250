"""Is everything there that a night needs? Each check says what is wrong and what to do about it."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.errors import LockedError, OddframeError

_LEAST_FREE = 2 * 2**30
_LIBRARIES = ("astropy", "numpy", "pyarrow", "pyiceberg", "pymilvus", "milvus-lite", "duckdb", "prefect")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `advice` is empty where all is well."""

    check: str
    ok: bool
    detail: str
    advice: str = ""

    def to_json(self) -> dict[str, Any]:
        """One line of `oddframe doctor --json`."""
        return {"check": self.check, "ok": self.ok, "detail": self.detail, "advice": self.advice}


def examine(home: Path, probes: Sequence[tuple[str, Callable[[], str], str]]) -> list[Finding]:
    """Look at the machine, then at each store through its probe.

    Args:
        home: where the state lives.
        probes: name, a function that answers with what it found or raises, and what to do if it raises.
    """
    findings = [_examine_python(), *_examine_libraries(), _examine_disk(home)]
    for name, probe, advice in probes:
        try:
            findings.append(Finding(name, ok=True, detail=probe()))
        except LockedError as error:
            # Another process is at work: no fault, and for it to say what is wrong there.
            findings.append(Finding(name, ok=True, detail=f"not looked into: {error}"))
        except (OddframeError, OSError) as error:
            findings.append(Finding(name, ok=False, detail=str(error), advice=advice))
    return findings


def _examine_python() -> Finding:
    version = platform.python_version()
    return Finding("python", sys.version_info >= (3, 11), version, "" if sys.version_info >= (3, 11) else "use 3.11")


def _examine_libraries() -> list[Finding]:
    findings: list[Finding] = []
    for name in _LIBRARIES:
        try:
            findings.append(Finding(f"library {name}", ok=True, detail=metadata.version(name)))
        except metadata.PackageNotFoundError:
            findings.append(Finding(f"library {name}", ok=False, detail="not installed", advice="run `make install`"))
    return findings


def _examine_disk(home: Path) -> Finding:
    place = next(p for p in (home, *home.parents) if p.exists())
    free = shutil.disk_usage(place).free
    ok = free >= _LEAST_FREE
    return Finding(
        "disk", ok, f"{free / 2**30:.1f} GiB free at {place}", "" if ok else "free some, or set ODDFRAME_HOME elsewhere"
    )
