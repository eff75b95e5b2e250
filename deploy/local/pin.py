"""Write jars.sha256 anew, after a version in one of the pom.xml changed: `.venv/bin/python deploy/local/pin.py`."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from pipeline.stack.downloads import JARS, copy_jars


def main() -> None:
    """Resolve every set and list the hashes."""
    lines = ["# sha256 of every jar of the local stack: SET/FILE. Made anew with deploy/local/pin.py."]
    with tempfile.TemporaryDirectory() as folder:
        for jars in JARS:
            target = Path(folder) / jars.name
            copy_jars(jars, target, print)
            found = sorted(target.glob("*.jar"))
            lines += [f"{hashlib.sha256(jar.read_bytes()).hexdigest()} {jars.name}/{jar.name}" for jar in found]
    (Path(__file__).parent / "jars.sha256").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
