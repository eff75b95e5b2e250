"""A camera that watches the whole sky: whether cloudy frames are farther from clear ones than clear ones are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from pipeline.errors import UsageError
from pipeline.evaluate.bootstrap import estimate
from pipeline.evaluate.metrics import correlate_ranks
from pipeline.evaluate.report import Heading, Item, Measure, describe_ranking
from pipeline.evaluate.specs import Spec
from pipeline.evaluate.truth import Folder, Sky, read_skies
from pipeline.frame.aliases import load_aliases
from pipeline.frame.types import Frame

Tell = Callable[[str], None]

CLEAR, CLOUDY = "clear", "cloudy"

EXPOSURE_FACTOR = 2.0
"""Exposures within this factor can be compared, as in the search of references."""


def evaluate_clouds(folder: Folder, specs: Sequence[Spec], tell: Tell) -> list[Measure]:
    """Compare each frame with clear ones of about its exposure, a clear one with the others; the camera stands still.

    Every frame has as many references as a clear one has, for a distance shrinks with each: one that is not clear goes
    without one of them, each in turn.

    Raises:
        UsageError: the truth does not fit the folder, or knows fewer than two clear frames.
    """
    skies = read_skies(folder)
    files = [folder.find(sky.file) for sky in skies]
    clear = [i for i, sky in enumerate(skies) if sky.label == CLEAR]
    if len(clear) < 2:  # noqa: PLR2004 - one has no other to be compared with
        raise UsageError(f"{folder.name}: the clouds protocol needs two frames labelled clear, not {len(clear)}")
    frames = {i: folder.read(files[i]) for i in clear}
    scored: list[list[tuple[Sky, float]]] = [[] for _ in specs]
    for i in range(len(skies)):
        frame = frames[i] if i in frames else folder.read(files[i])
        references = _choose_references(frame, list(frames.values()), i)
        for kept, spec in zip(scored, specs, strict=True):
            learnt = spec.learn(references, standing=True) if references else None
            found = None if learnt is None else learnt.compare(frame)
            if found is not None:
                kept.append((skies[i], found.score))
        tell(skies[i].file)
    return [
        measure
        for spec, own in zip(specs, scored, strict=True)
        for measure in _tell_spec(Heading("clouds", folder.name, spec.name), own, len(skies) - len(own))
    ]


def _choose_references(frame: Frame, clear: Sequence[Frame], turn: int) -> list[Frame]:
    own = _read_exposure(frame)
    alike = [c for c in clear if _is_near(own, _read_exposure(c))]
    left_out = frame if any(c is frame for c in alike) else alike[turn % len(alike)] if alike else None
    return [c for c in alike if c is not left_out]


def _read_exposure(frame: Frame) -> float | None:
    for keyword in load_aliases().choose(frame.header).exposure:
        value = frame.header.get(keyword)
        if isinstance(value, int | float) and value > 0:
            return float(value)
    return None


def _is_near(one: float | None, other: float | None) -> bool:
    return one is None or other is None or 1 / EXPOSURE_FACTOR <= one / other <= EXPOSURE_FACTOR


def _tell_spec(heading: Heading, scored: Sequence[tuple[Sky, float]], unanswered: int) -> list[Measure]:
    note = f"{unanswered} frames could not be compared, or have no clear frame of their exposure" if unanswered else ""
    measures: list[Measure] = []
    for kind in sorted({sky.label for sky, _ in scored} - {CLEAR}, key=lambda k: (k != CLOUDY, k)):
        items = [Item(score, sky.label == kind, sky.file) for sky, score in scored if sky.label in (kind, CLEAR)]
        measures += describe_ranking(heading, kind, items, note)
    flags, scores = (np.asarray(v, dtype=np.float64) for v in ([s.cloudy for s, _ in scored], [v for _, v in scored]))
    found = estimate(partial(correlate_ranks, flags, scores), [sky.file for sky, _ in scored])
    return [*measures, heading.tell("all", "rank_correlation", found, note)]
