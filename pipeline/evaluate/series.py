"""A series of normal frames: how many are called odd, and how faint the light is that is found when added to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.difference.inject import KINDS
from pipeline.errors import UsageError
from pipeline.evaluate.bootstrap import estimate, estimate_share
from pipeline.evaluate.inject import Injected, Optics, inject, measure_optics
from pipeline.evaluate.metrics import find_half
from pipeline.evaluate.report import Heading, Measure, tell_half
from pipeline.evaluate.specs import Knowledge, Spec
from pipeline.evaluate.truth import Folder, read_series
from pipeline.frame.types import Frame
from pipeline.judge.calibration import calibrate

Tell = Callable[[str], None]

LADDER = (5.0, 7.0, 10.0, 14.0, 20.0)
"""Signal-to-noise ratios of what is injected."""

REACH_PX = 5.0
"""How near to what was injected a listed place must lie: a third of a streak."""

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
    """One frame under one spec.

    Attributes:
        owner: the frame.
        kind: what was injected, or `normal`.
        snr: of what was injected, 0 for nothing.
        score: None where it could not be compared.
        places: how many places are listed.
        hit: whether one of them is that of the injection.
    """

    owner: str
    kind: str
    snr: float
    score: float | None
    places: int
    hit: bool


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
                kept.append(_shoot(name, kind, snr, shown, knowledge))
        tell(name)
    return [
        measure
        for spec, knowledge, own in zip(specs, learnt, shots, strict=True)
        for measure in _tell_spec(Heading("series", folder.name, spec.name), knowledge, own, plan)
    ]


def _read(folder: Folder, name: str, tell: Tell) -> Frame:
    tell(name)
    return folder.read(name)


def _shoot(name: str, kind: str, snr: float, shown: Injected, knowledge: Knowledge | None) -> Shot:
    found = None if knowledge is None else knowledge.compare(shown.frame)
    if found is None:
        return Shot(name, kind, snr, None, 0, hit=False)
    places = found.list_places()
    hit = snr > 0 and any(math.hypot(x - shown.x, y - shown.y) <= REACH_PX for x, y in places)
    return Shot(name, kind, snr, found.score, len(places), hit)


def _vary(frame: Frame, ladder: Sequence[float], number: int) -> list[tuple[str, float, Injected]]:
    """The frame as it is, and once with each thing added."""
    optics: Optics | None = measure_optics(frame)
    rng = np.random.default_rng([SEED, number])
    rungs = [(kind, snr) for kind in KINDS for snr in ladder] if optics is not None else []
    added = [(kind, snr, inject(optics, kind, snr, rng)) for kind, snr in rungs if optics is not None]
    return [("normal", 0.0, Injected(frame, math.nan, math.nan)), *added]


def _tell_spec(heading: Heading, knowledge: Knowledge | None, shots: Sequence[Shot], plan: SeriesPlan) -> list[Measure]:
    threshold = None if knowledge is None else find_threshold(knowledge, plan.budget)
    quiet = [s for s in shots if s.kind == "normal"]
    answered = [s for s in quiet if s.score is not None]
    note = "" if len(answered) == len(quiet) else f"{len(quiet) - len(answered)} of {len(quiet)} could not be compared"
    if threshold is None:
        return [heading.count("normal", "flagged", 0, 0, "; ".join(t for t in (note, "no calibration") if t))]
    owners = [s.owner for s in answered]
    flags = [_is_flagged(s, threshold) for s in answered]
    measures = [
        heading.count("normal", "flagged", sum(flags), len(flags), note),
        heading.tell("normal", "flagged_share", estimate_share(flags, owners), note),
        heading.tell("normal", "places_per_frame", estimate_share([float(s.places) for s in answered], owners)),
    ]
    # A frame that is flagged as it is would be with any light added: it says nothing of that light.
    odd = {s.owner for s, flag in zip(answered, flags, strict=True) if flag}
    for kind in KINDS:
        own = [s for s in shots if s.kind == kind]
        flagged = [(s, _is_flagged(s, threshold) and s.owner not in odd) for s in own]
        measures += _tell_ladder(heading, kind, "", flagged, plan.ladder)
        if any(s.places for s in shots):
            measures += _tell_ladder(heading, kind, "_of_place", [(s, s.hit) for s in own], plan.ladder)
    return measures


def _is_flagged(shot: Shot, threshold: float) -> bool:
    """What could not be compared is not found."""
    return shot.score is not None and shot.score >= threshold


def _tell_ladder(
    heading: Heading, kind: str, what: str, tried: Sequence[tuple[Shot, bool]], ladder: Sequence[float]
) -> list[Measure]:
    measures = []
    for rung in ladder:
        chosen = [(hit, s.owner) for s, hit in tried if s.snr == rung]
        share = estimate_share([hit for hit, _ in chosen], [owner for _, owner in chosen])
        measures.append(heading.tell(f"{kind} S/N {rung:g}", f"recall{what}", share))
    snr, hits = (np.asarray(v, dtype=np.float64) for v in ([s.snr for s, _ in tried], [hit for _, hit in tried]))
    half = estimate(partial(find_half, snr, hits), [s.owner for s, _ in tried])
    return [*measures, heading.tell(kind, f"snr_at_half{what}", half, tell_half(half.value, ladder))]
