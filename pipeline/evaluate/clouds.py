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

Tell = Callable[[str], None]

CLEAR, CLOUDY = "clear", "cloudy"


def evaluate_clouds(folder: Folder, specs: Sequence[Spec], tell: Tell) -> list[Measure]:
    """Compare each frame with the clear ones, a clear one with the others of them; the camera stands still.

    Raises:
        UsageError: the truth does not fit the folder, or knows fewer than two clear frames.
    """
    skies = read_skies(folder)
    files = [folder.find(sky.file) for sky in skies]
    clear = [i for i, sky in enumerate(skies) if sky.label == CLEAR]
    if len(clear) < 2:  # noqa: PLR2004 - one has no other to be compared with
        raise UsageError(f"{folder.name}: the clouds protocol needs two frames labelled clear, not {len(clear)}")
    frames = {i: folder.read(files[i]) for i in clear}
    # Frames that are not clear are all compared with the same: learnt once.
    order = sorted(range(len(skies)), key=lambda i: (i in frames, i))
    scored: list[list[tuple[Sky, float]]] = [[] for _ in specs]
    for i in order:
        references = [frame for j, frame in frames.items() if j != i]
        frame = frames[i] if i in frames else folder.read(files[i])
        for kept, spec in zip(scored, specs, strict=True):
            learnt = spec.learn(references, standing=True)
            found = None if learnt is None else learnt.compare(frame)
            if found is not None:
                kept.append((skies[i], found.score))
        tell(skies[i].file)
    return [
        measure
        for spec, own in zip(specs, scored, strict=True)
        for measure in _tell_spec(Heading("clouds", folder.name, spec.name), own, len(skies) - len(own))
    ]


def _tell_spec(heading: Heading, scored: Sequence[tuple[Sky, float]], unanswered: int) -> list[Measure]:
    note = f"{unanswered} frames could not be compared" if unanswered else ""
    measures: list[Measure] = []
    for kind in sorted({sky.label for sky, _ in scored} - {CLEAR}, key=lambda k: (k != CLOUDY, k)):
        items = [Item(score, sky.label == kind, sky.file) for sky, score in scored if sky.label in (kind, CLEAR)]
        measures += describe_ranking(heading, kind, items, note)
    flags, scores = (np.asarray(v, dtype=np.float64) for v in ([s.cloudy for s, _ in scored], [v for _, v in scored]))
    found = estimate(partial(correlate_ranks, flags, scores), [sky.file for sky, _ in scored])
    return [*measures, heading.tell("all", "rank_correlation", found, note)]
