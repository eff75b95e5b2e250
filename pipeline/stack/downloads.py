"""What the local stack is made of, downloaded once, every file checked against a committed hash."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StoreError, TransientError
from pipeline.stack.java import find_java, find_maven
from pipeline.stack.layout import find_source

Progress = Callable[[str, int, int], None]
"""What is being downloaded, how many files are there, how many there will be."""

_DEPENDENCY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1"
_JAVA_TARGET = "11"
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS = 1_200


@dataclass(frozen=True, slots=True)
class JarSet:
    """Jars that one project file resolves to.

    Attributes:
        name: directory in the cache, and first part of the paths in the list of hashes.
        project: Maven project in deploy/local.
        without: patterns of jars to leave out: those that a plugin gets from the server, and one that is replaced.
        shim: Java source compiled against the jars of this set and of the sets named in `beside`.
    """

    name: str
    project: str
    without: tuple[str, ...] = ()
    shim: str | None = None
    beside: tuple[str, ...] = ()


JARS = (
    JarSet("kafka", "kafka/pom.xml"),
    JarSet("catalog", "catalog/pom.xml"),
    JarSet("presto-server", "presto/server-pom.xml"),
    JarSet(
        "presto-iceberg",
        "presto/iceberg-pom.xml",
        without=(
            # The server lends these to every plugin; a second copy would be another class.
            *("presto-spi-*", "presto-common-*", "slice-*", "units-*", "jol-core-*"),
            *("jackson-annotations-*", "drift-api-*"),
            # Not used with a REST catalogue on files, and large.
            *("iceberg-nessie-*", "nessie-*", "ranger-apache-*", "alluxio-shaded-client-*"),
            *("hudi-presto-bundle-*", "aws-java-sdk-glue-*"),
        ),
        shim="presto/shim/NessieCatalog.java",
        beside=("presto-server",),
    ),
)
MILVUS = "milvus"


def fetch_all(cache: Path, progress: Progress) -> None:
    """Download what is not in the cache yet.

    Raises:
        UsageError: Java or Maven is missing.
        TransientError: a download failed.
        StoreError: a file is not the one whose hash is committed.
    """
    missing = [jars for jars in JARS if not (cache / jars.name).is_dir()]
    if missing:
        find_java()
        hashes = read_hashes()
        for jars in missing:
            _fetch_jars(jars, cache, {k: v for k, v in hashes.items() if k.startswith(f"{jars.name}/")}, progress)
    if not (cache / MILVUS).is_dir():
        _fetch_milvus(cache, progress)


def read_hashes() -> dict[str, str]:
    """Committed sha256 of every jar, by `set/file`."""
    lines = find_source("jars.sha256").read_text(encoding="utf-8").splitlines()
    return {name: digest for digest, name in (line.split() for line in lines if not line.startswith("#"))}


def copy_jars(jars: JarSet, target: Path, looked: Callable[[int], None]) -> None:
    """Have Maven resolve a set into a directory.

    Raises:
        TransientError: Maven failed; its first error line is in the text.
    """
    command = [str(find_maven()), "-q", "-B", "-f", str(find_source(jars.project))]
    command += [f"{_DEPENDENCY_PLUGIN}:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={target}"]
    with tempfile.TemporaryFile("w+") as said:
        maven = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            waited = 0.0
            while maven.poll() is None and waited < _SECONDS:
                looked(sum(1 for _ in target.glob("*.jar")) if target.is_dir() else 0)
                waited += _SECONDS_BETWEEN_LOOKS
                _wait(maven)
        finally:
            maven.kill()
        said.seek(0)
        errors = [line.strip() for line in said if "ERROR" in line]
    if maven.wait() != 0:
        raise TransientError(f"Maven could not fetch {jars.name}: {errors[0] if errors else 'no reason given'}")
    for pattern in jars.without:
        for jar in target.glob(f"{pattern}.jar"):
            jar.unlink()


def _fetch_jars(jars: JarSet, cache: Path, hashes: dict[str, str], progress: Progress) -> None:
    with _making(cache / jars.name) as target:
        copy_jars(jars, target, lambda count: progress(jars.name, count, len(hashes)))
        _check_jars(jars.name, target, hashes)
        if jars.shim is not None:
            _compile_shim(jars, target, cache)
    progress(jars.name, len(hashes), len(hashes))


def _check_jars(name: str, target: Path, hashes: dict[str, str]) -> None:
    found = {f"{name}/{jar.name}": _hash(jar) for jar in target.glob("*.jar")}
    if wrong := sorted(n for n in found.keys() | hashes.keys() if found.get(n) != hashes.get(n)):
        raise StoreError(
            f"{len(wrong)} of {len(hashes)} jars of {name} are not those whose hashes are committed, first {wrong[0]};"
            " clear Maven's repository and try again"
        )


def _compile_shim(jars: JarSet, target: Path, cache: Path) -> None:
    assert jars.shim is not None  # noqa: S101 - asked before
    java = find_java()
    path = ":".join(f"{place}/*" for place in (target, *(cache / name for name in jars.beside)))
    with tempfile.TemporaryDirectory() as classes:
        _run(
            [str(java.parent / "javac"), "--release", _JAVA_TARGET, "-nowarn", "-cp", path, "-d", classes],
            [str(find_source(jars.shim))],
        )
        _run([str(java.parent / "jar"), "cf", str(target / "oddframe-shim.jar"), "-C", classes, "."], [])


def _fetch_milvus(cache: Path, progress: Progress) -> None:
    with _making(cache / MILVUS) as target, tempfile.TemporaryDirectory() as folder:
        progress(MILVUS, 0, 1)
        _run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"],
            ["--require-hashes", "--dest", folder, "-r", str(find_source("milvus/requirements.txt"))],
        )
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(folder)
        data = Path(folder) / "milvus" / "data"
        (target / "bin").mkdir()
        parts = sorted((data / "bin").glob("*.lzma"))
        for done, part in enumerate(parts):
            progress(MILVUS, done, len(parts))
            unpacked = target / "bin" / part.stem
            with lzma.open(part) as source, unpacked.open("wb") as file:
                shutil.copyfileobj(source, file)
            unpacked.chmod(0o755)
        shutil.copy(data / "config.yaml.template", target / "milvus.yaml.template")
        shutil.copy(data / "glog.conf", target / "glog.conf")
    progress(MILVUS, len(parts), len(parts))


class _making:  # noqa: N801 - used as a verb: with _making(directory)
    """A directory that appears whole or not at all."""

    def __init__(self, final: Path) -> None:
        self._final = final

    def __enter__(self) -> Path:
        self._final.parent.mkdir(parents=True, exist_ok=True)
        self._part = Path(tempfile.mkdtemp(prefix=f".{self._final.name}.", dir=self._final.parent))
        return self._part

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None and not self._final.exists():
            self._part.chmod(0o755)
            self._part.rename(self._final)
        else:
            shutil.rmtree(self._part, ignore_errors=True)


def _run(command: Sequence[str], arguments: Sequence[str]) -> None:
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()
        raise TransientError(f"{Path(command[0]).name} failed: {lines[-1]}")


def _wait(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    try:
        process.wait(_SECONDS_BETWEEN_LOOKS)
    except subprocess.TimeoutExpired:
        return


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
