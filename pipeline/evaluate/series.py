"""A series of normal frames: how many are called odd, and how faint the light is that is found when added to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.errors import UsageError
from pipeline.evaluate.bootstrap import estimate, estimate_share
from pipeline.evaluate.inject import KINDS, Optics, inject, measure_optics
from pipeline.evaluate.metrics import find_half
from pipeline.evaluate.report import Heading, Measure, tell_half
from pipeline.evaluate.specs import Knowledge, Spec
from pipeline.evaluate.truth import Folder, read_series
from pipeline.frame.types import Frame
from pipeline.judge.calibration import calibrate

Tell = Callable[[str], None]

LADDER = (5.0, 7.0, 10.0, 14.0, 20.0)
"""Signal-to-noise ratios of what is injected."""

SEED = 40


@dataclass(frozen=True, slots=True)
class SeriesPlan:
    """What is asked of a series.

    Attributes:
        references: how many of the first frames are learnt from.
        budget: share of normal frames that may be flagged.
        ladder: S/N of what is injected into each of the others.
    """

    references: int = 40
    budget: float = 0.01
    ladder: tuple[float, ...] = LADDER


@dataclass(frozen=True, slots=True)
class Shot:
    """A score; `kind` and `snr` say what was injected, `snr` 0 for nothing. None where it could not be compared."""

    owner: str
    kind: str
    snr: float
    score: float | None


def find_threshold(knowledge: Knowledge, budget: float) -> float | None:
    """The score from which a frame is called odd at a budget; None where fewer than two references speak."""
    usual = knowledge.usual
    return calibrate(usual).find_threshold(budget) if len(usual) > 1 else None


def evaluate_series(folder: Folder, specs: Sequence[Spec], plan: SeriesPlan, tell: Tell) -> list[Measure]:
    """Learn from the first frames, then ask of each other whether it is odd, as it is and with light added.

    Raises:
        UsageError: the truth does not fit the folder, or leaves no frame to ask of.
    """
    files = [folder.find(name) for name in read_series(folder)]
    if len(files) <= plan.references:
        left = f"{len(files)} normal frames leave none beside {plan.references} references"
        raise UsageError(f"{folder.name}: {left}; see --references")
    references = [_read(folder, name, tell) for name in files[: plan.references]]
    learnt = [spec.learn(references) for spec in specs]
    shots: list[list[Shot]] = [[] for _ in specs]
    for number, name in enumerate(files[plan.references :]):
        frame = folder.read(name)
        for kind, snr, shown in _vary(frame, plan.ladder, number):
            for kept, knowledge in zip(shots, learnt, strict=True):
                found = None if knowledge is None else knowledge.compare(shown)
                kept.append(Shot(name, kind, snr, None if found is None else found.score))
        tell(name)
    return [
        measure
        for spec, knowledge, own in zip(specs, learnt, shots, strict=True)
        for measure in _tell_spec(Heading("series", folder.name, spec.name), knowledge, own, plan)
    ]


def _read(folder: Folder, name: str, tell: Tell) -> Frame:
    tell(name)
    return folder.read(name)


def _vary(frame: Frame, ladder: Sequence[float], number: int) -> list[tuple[str, float, Frame]]:
    """The frame as it is, and once with each thing added."""
    optics: Optics | None = measure_optics(frame)
    rng = np.random.default_rng([SEED, number])
    rungs = [(kind, snr) for kind in KINDS for snr in ladder] if optics is not None else []
    added = [(kind, snr, inject(optics, kind, snr, rng)) for kind, snr in rungs if optics is not None]
    return [("normal", 0.0, frame), *added]


def _tell_spec(heading: Heading, knowledge: Knowledge | None, shots: Sequence[Shot], plan: SeriesPlan) -> list[Measure]:
    threshold = None if knowledge is None else find_threshold(knowledge, plan.budget)
    quiet = [s for s in shots if s.kind == "normal"]
    answered = [s for s in quiet if s.score is not None]
    note = "" if len(answered) == len(quiet) else f"{len(quiet) - len(answered)} of {len(quiet)} could not be compared"
    if threshold is None:
        return [heading.count("normal", "flagged", 0, 0, "; ".join(t for t in (note, "no calibration") if t))]
    flags = [bool(s.score is not None and s.score >= threshold) for s in answered]
    measures = [
        heading.count("normal", "flagged", sum(flags), len(flags), note),
        heading.tell("normal", "flagged_share", estimate_share(flags, [s.owner for s in answered]), note),
    ]
    for kind in KINDS:
        own = [s for s in shots if s.kind == kind]
        # What could not be compared was not found.
        found = np.asarray([s.score is not None and s.score >= threshold for s in own], dtype=np.float64)
        snr, owners = np.asarray([s.snr for s in own]), [s.owner for s in own]
        for rung in plan.ladder:
            chosen = np.flatnonzero(snr == rung)
            share = estimate_share(found[chosen].tolist(), [owners[i] for i in chosen.tolist()])
            measures.append(heading.tell(f"{kind} S/N {rung:g}", "recall", share))
        half = estimate(partial(find_half, snr, found), owners)
        measures.append(heading.tell(kind, "snr_at_half", half, tell_half(half.value, plan.ladder)))
    return measures
