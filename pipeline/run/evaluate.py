"""Folders with a truth file, read one frame at a time, and the protocols run over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.errors import UnreadableFrameError, UsageError
from pipeline.evaluate.protocols import evaluate
from pipeline.evaluate.report import Measure
from pipeline.evaluate.series import SeriesPlan
from pipeline.evaluate.truth import Folder
from pipeline.frame.fits import decode
from pipeline.frame.types import DecodeLimits, Frame
from pipeline.run.lake import CODE_VERSION

TRUTH_NAME = "truth.csv"


def open_folder(path: Path, limits: DecodeLimits) -> Folder:
    """List a folder's files and read its truth; frames are decoded when they are asked for.

    Raises:
        UsageError: it is no folder, or its `truth.csv` is not there or no text.
    """
    if not path.is_dir():
        raise UsageError(f"{path} is not a folder; evaluate takes folders with a {TRUTH_NAME}")
    try:
        truth = (path / TRUTH_NAME).read_text(encoding="utf-8-sig")
        files = sorted(str(f.relative_to(path)) for f in path.rglob("*") if f.is_file() and f.name != TRUTH_NAME)
    except FileNotFoundError as error:
        raise UsageError(f"{path} has no {TRUTH_NAME}; without it there is nothing to compare with") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path / TRUTH_NAME} cannot be read: {error}") from error

    def read(name: str) -> Frame:
        try:
            return decode((path / name).read_bytes(), name=name, limits=limits)
        except UnreadableFrameError as error:
            raise UsageError(f"{path / name}: {error.reason}") from error
        except OSError as error:
            raise UsageError(f"{path / name} cannot be read: {error.strerror or error}") from error

    return Folder(path.resolve().name, truth, tuple(files), read)


def evaluate_folder(
    protocol: str, path: Path, specs: Sequence[str], plan: SeriesPlan, tell: Callable[[str], None]
) -> list[Measure]:
    """Run a protocol over one folder; see `evaluate`.

    Raises:
        UsageError: the folder, its truth or a frame in it cannot be used, or a name is not known.
    """
    return evaluate(protocol, open_folder(path, DecodeLimits()), specs, plan, tell)


def list_rows(measures: Sequence[Measure], *, at: datetime) -> list[dict[str, Any]]:
    """Rows of `evaluations`; at is naive UTC."""
    own = ("protocol", "folder", "spec", "kind", "metric", "value", "low", "high", "note")
    return [
        {name: getattr(m, name) for name in own} | {"at": at, "n_objects": m.objects, "code_version": CODE_VERSION}
        for m in measures
    ]
