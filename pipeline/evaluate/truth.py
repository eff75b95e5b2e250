"""`truth.csv`: what its columns say, checked before any frame is opened."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

from pipeline.errors import UsageError
from pipeline.frame.types import Frame

Row = dict[str, str]
T = TypeVar("T")

_TRACK = re.compile(r"(\d+)@(-?\d+(?:\.\d+)?),(-?\d+(?:\.\d+)?)")
_REGION = re.compile(r"s\d+")


@dataclass(frozen=True, eq=False, slots=True)
class Folder:
    """A folder of frames with their truth.

    Attributes:
        name: for people and tables.
        truth: text of its `truth.csv`.
        files: every other file below it, relative, in order of name.
        read: decodes one of them.
    """

    name: str
    truth: str
    files: tuple[str, ...]
    read: Callable[[str], Frame]

    def find(self, name: str) -> str:
        """The file of this relative path, else the one of this name anywhere below.

        Raises:
            UsageError: there is none, or more than one.
        """
        if name in self.files:
            return name
        return self._choose(name, [f for f in self.files if PurePosixPath(f).name == PurePosixPath(name).name])

    def find_stem(self, stem: str) -> str:
        """The file whose name is this up to its first dot.

        Raises:
            UsageError: there is none, or more than one.
        """
        return self._choose(f"{stem}.*", [f for f in self.files if PurePosixPath(f).name.split(".")[0] == stem])

    def _choose(self, wanted: str, found: Sequence[str]) -> str:
        if len(found) == 1:
            return found[0]
        what = "no file" if not found else f"{len(found)} files"
        raise UsageError(f"{self.name}: truth.csv names {wanted}, and {what} of that name lies in the folder")

    def parse(self, needed: Sequence[str], build: Callable[[Row], T | None]) -> list[T]:
        """What the rows say; rows of which `build` makes None are left out.

        Raises:
            UsageError: a column is missing, a row cannot be used, or nothing is left.
        """
        reader = csv.DictReader(io.StringIO(self.truth), strict=True)
        found = []
        try:
            missing = [column for column in needed if column not in (reader.fieldnames or ())]
            if missing:
                raise UsageError(f"{self.name}: truth.csv has no column {missing[0]!r}; this protocol needs it")
            for row in reader:
                built = build({key: (value or "").strip() for key, value in row.items() if key is not None})
                if built is not None:
                    found.append(built)
        except (ValueError, csv.Error) as error:
            raise UsageError(f"{self.name}: truth.csv, line {reader.line_num}: {error}") from error
        if not found:
            raise UsageError(f"{self.name}: truth.csv has no row that this protocol can use")
        return found


@dataclass(frozen=True, slots=True)
class Pair:
    """A science cutout with its reference; `anomaly` is None where nobody knows. x, y: the event, px, or None."""

    name: str
    kind: str
    anomaly: bool | None
    owner: str
    x: float | None
    y: float | None


def read_pairs(folder: Folder) -> list[Pair]:
    """Rows with a label.

    Raises:
        UsageError: the truth cannot be used.
    """

    def build(row: Row) -> Pair | None:
        label = _read_label(row["anomaly"])
        if label is None:
            return None
        x, y = (_read_number(row.get(axis, ""), axis) for axis in ("x", "y"))
        return Pair(row["id"], row["kind"] or "unnamed", label, row.get("objectId") or row["id"], x, y)

    return folder.parse(("id", "anomaly", "kind"), build)


def read_series(folder: Folder) -> list[str]:
    """Files of a series labelled normal, in order.

    Raises:
        UsageError: the truth cannot be used.
    """
    return folder.parse(("file", "label"), lambda row: row["file"] if row["label"] == "normal" else None)


@dataclass(frozen=True, slots=True)
class Sky:
    """An image of the whole sky: clear or not, and how many of its regions were called cloudy."""

    file: str
    label: str
    cloudy: float


def read_skies(folder: Folder) -> list[Sky]:
    """Rows with a label; without flags of regions the cloudy share counts.

    Raises:
        UsageError: the truth cannot be used.
    """

    def build(row: Row) -> Sky | None:
        flags = [_read_number(value, key) for key, value in row.items() if _REGION.fullmatch(key)]
        known = [flag for flag in flags if flag is not None]
        share = _read_number(row.get("cloud_fraction", ""), "cloud_fraction") or 0.0
        return Sky(row["file"], row["label"], sum(known) if known else share) if row["label"] else None

    return folder.parse(("file", "label"), build)


@dataclass(frozen=True, slots=True)
class Masked:
    """A frame with its mask, as a file or as the centres of tracks; frames of one `field` may be compared."""

    file: str
    mask: str | None
    tracks: tuple[tuple[float, float], ...]
    field: str


def read_masked(folder: Folder) -> list[Masked]:
    """Rows with a mask in column `dq`, else with tracks as `pixels@x,y`.

    Raises:
        UsageError: the truth cannot be used.
    """

    def build(row: Row) -> Masked:
        tracks = tuple((float(x), float(y)) for _, x, y in _TRACK.findall(row.get("tracks_npx_x_y", "")))
        file = f"{row['case']}/{row['file']}" if row.get("case") else row["file"]
        mask = row.get("dq") or None
        if mask is None and "tracks_npx_x_y" not in row:
            raise ValueError("neither a mask (column dq) nor tracks (column tracks_npx_x_y)")
        mask = f"{row['case']}/{mask}" if mask and row.get("case") else mask
        return Masked(file, mask, tracks, f"{row.get('case', '')} {row.get('filter', '')[:1]}".strip())

    return folder.parse(("file",), build)


@dataclass(frozen=True, slots=True)
class Simulated:
    """A simulated frame; `rung` names the strength of what it carries, `snr` is None where it has none."""

    file: str
    reference: bool
    field: str
    kind: str
    odd: bool
    snr: float | None
    rung: str


def read_simulated(folder: Folder) -> list[Simulated]:
    """Rows of `oddframe simulate`.

    Raises:
        UsageError: the truth cannot be used.
    """

    def build(row: Row) -> Simulated:
        if row["role"] not in ("reference", "science"):
            raise ValueError(f"role {row['role']!r} is neither reference nor science")
        snr, depth = _read_number(row["snr"], "snr"), _read_number(row.get("depth", ""), "depth")
        snr = None if snr is None or snr <= 0 else float(f"{snr:.2g}")
        # A cloud's ladder is one of depths; the S/N that it reaches is another on every frame.
        by_depth = row["kind"] == "cloud" and depth is not None
        return Simulated(
            row["file"],
            row["role"] == "reference",
            row["field"],
            row["kind"],
            bool(_read_label(row["label"])),
            snr,
            f"depth {depth:.2g}" if by_depth else "" if snr is None else f"S/N {snr:g}",
        )

    return folder.parse(("file", "role", "field", "kind", "label", "snr"), build)


def _read_label(text: str) -> bool | None:
    if text not in ("", "0", "1"):
        raise ValueError(f"label {text!r} is neither 0, 1 nor empty")
    return None if text == "" else text == "1"


def _read_number(text: str, column: str) -> float | None:
    if text == "":
        return None
    try:
        number = float(text)
    except ValueError as error:
        raise ValueError(f"{column} {text!r} is not a number") from error
    if not math.isfinite(number):
        raise ValueError(f"{column} {text!r} is not a number")
    return number
