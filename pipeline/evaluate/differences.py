"""A frame minus its references, as the evaluation asks for it: learn, subtract, flatten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.build import pile_up
from pipeline.difference.channels import Significance
from pipeline.difference.layout import DIMENSION
from pipeline.difference.learn import Learnt, learn, look
from pipeline.difference.localise import localise
from pipeline.difference.sources import no_sources
from pipeline.difference.subtract import Exposure, Residual, expose, subtract
from pipeline.difference.tiles import Tile
from pipeline.difference.transform import Affine
from pipeline.difference.vector import Usual, exceed, flatten, learn_usual
from pipeline.embed.residual import list_unusual, map_by_wcs, measure_fwhm
from pipeline.evaluate.specs import Floats, Mask
from pipeline.frame.header import describe
from pipeline.frame.types import Frame, SkyRules

Vector = NDArray[np.float32]

LEAST_LEARNT = 3
"""References from which on their own residuals say what is usual."""

LEAST_SIDE_PX = 17
"""Smaller frames do not hold half of a PSF's stamp, of 33 px at most, which the filters need."""

_SPOTS = ("point", "streak", "hot_pixels")

NO_EXCESS = flatten(np.zeros(DIMENSION - 1))
"""The vector of a frame that shows nothing over the usual."""


@dataclass(frozen=True, eq=False)
class Difference:
    """A frame minus its references.

    Attributes:
        residual: what is left.
        found: what the filters say of it.
        usual: heights of the channels of its references.
        excess: over the usual, (DIMENSION - 1,).
    """

    residual: Residual
    found: Significance
    usual: Usual
    excess: Floats

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the frame."""
        return (self.found.point.shape[0], self.found.point.shape[1])

    @cached_property
    def places(self) -> list[tuple[float, float]]:
        """Points, streaks and hot pixels that stand out."""
        listed = list_unusual(localise(self.found, measure_fwhm(self.residual.match.psf)), self.usual, at_least=0)
        return [(p.x, p.y) for p in listed if p.kind in _SPOTS]

    def mark_tiles(self, tiles: Sequence[Tile]) -> Mask:
        """Tiles with a place that is listed, or with a pixel taken for a cosmic ray."""
        rays = self.residual.cosmic_rays
        return np.asarray([bool(rays[t.window].any()) or any(t.holds(*place) for place in self.places) for t in tiles])


class DifferenceKnowledge:
    """References learnt; the last frame compared is kept, for both specs ask of it.

    Attributes:
        learnt: of the references.
        vectors: of the references that were registered; of three or more, else that of no excess alone.
    """

    def __init__(self, references: Sequence[Frame], learnt: Learnt, anchor: Affine | None, *, standing: bool) -> None:
        """Take over what was learnt; `anchor` maps the first reference to the stack, None where only stars say."""
        self.learnt = learnt
        self.standing = standing
        self._first = references[0]
        self._anchor = anchor
        vectors = tuple(v for i, v in enumerate(learnt.vectors) if v is not None and i not in learnt.odd)
        self.vectors: tuple[Vector, ...] = vectors or (NO_EXCESS,)
        self._last: tuple[Frame, Difference | None] | None = None

    def subtract(self, frame: Frame) -> Difference | None:
        """Compare a frame; None where it cannot be registered or has no noise to compare with."""
        if self._last is None or self._last[0] is not frame:
            self._last = (frame, self._subtract(frame))
        return self._last[1]

    def _subtract(self, frame: Frame) -> Difference | None:
        exposure = open_exposure(frame)
        if exposure is None:
            return None
        detector = self.learnt.detector
        exposure = _hold(exposure if detector is None else detector.correct(exposure), self.standing)
        # Cutouts of all kinds come here; what is undefined on one of them is masked, or seen in the figures.
        with np.errstate(all="ignore"):
            residual = subtract(exposure, self.learnt.stack, self._find_prior(frame))
            if residual is None or not (residual.weight > 0).any():
                return None
            found = look(residual, self.learnt.stack, exposure.noise)
        usual = self.learnt.usual
        return Difference(residual, found, usual, exceed(found.channels, usual))

    def _find_prior(self, frame: Frame) -> Affine | None:
        if self._anchor is None:
            return None
        prior = find_prior(frame, self._first, standing=self.standing)
        return None if prior is None else self._anchor.after(prior)


def open_exposure(frame: Frame) -> Exposure | None:
    """A frame ready to be compared; None where it is too small, or without a valid pixel or noise."""
    if not frame.valid.any() or min(frame.pixels.shape) < LEAST_SIDE_PX:
        return None
    exposure = expose(frame.pixels, frame.valid, describe(frame, SkyRules()).quality.ceiling)
    return exposure if exposure.noise > 0 else None


def _hold(exposure: Exposure, standing: bool) -> Exposure:
    """Without sources where the camera stands still: the sky turns over it, and no star may move a frame."""
    return replace(exposure, sources=no_sources()) if standing else exposure


def find_prior(frame: Frame, reference: Frame, *, standing: bool) -> Affine | None:
    """What the headers say, else pixel on pixel for a camera that stands still."""
    shape = (frame.pixels.shape[0], frame.pixels.shape[1])
    found = map_by_wcs(_to_texts(frame.header), shape, _to_texts(reference.header), Affine())
    return Affine() if found is None and standing else found


def _to_texts(header: Mapping[str, object]) -> dict[str, str]:
    return {keyword: str(value) for keyword, value in header.items()}


def learn_differences(references: Sequence[Frame], *, standing: bool) -> DifferenceKnowledge | None:
    """Learn from references; None where none of them can be used.

    From three references on they say what is usual. One or two are stacked, and the usual is what noise would hardly
    exceed: the only vector to compare with is then that of no excess.
    """
    opened = [(frame, exposure) for frame in references if (exposure := open_exposure(frame)) is not None]
    if not opened:
        return None
    frames, exposures = [frame for frame, _ in opened], [_hold(exposure, standing) for _, exposure in opened]
    priors = [find_prior(frame, frames[0], standing=standing) for frame in frames]
    if len(exposures) >= LEAST_LEARNT:
        learnt = learn(exposures, priors)
    else:
        pile = pile_up(exposures, priors)
        placed = tuple(None if r is None else r.to_reference for r in pile.layers.registrations)
        learnt = Learnt(pile.stack, None, learn_usual([]), (), placed)
    first = learnt.placed[0] if priors[0] is not None else None
    return DifferenceKnowledge(frames, learnt, first, standing=standing)


class Differences:
    """Learns once for `residual` and `tiles`."""

    def __init__(self) -> None:
        self._last: tuple[tuple[Frame, ...], DifferenceKnowledge | None] | None = None

    def learn(self, references: Sequence[Frame], *, standing: bool) -> DifferenceKnowledge | None:
        """As `learn_differences`; the same references again are not learnt again."""
        if self._last is None or not _is_same(self._last[0], references):
            self._last = (tuple(references), learn_differences(references, standing=standing))
        return self._last[1]


def _is_same(one: Sequence[Frame], other: Sequence[Frame]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
