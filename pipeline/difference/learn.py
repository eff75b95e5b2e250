"""References -> what a frame is compared with: the stack, its scatter, and the usual height of every channel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from pipeline.difference.build import Pile, allocate_in_memory, pile_up
from pipeline.difference.channels import Channels, Significance, measure_channels
from pipeline.difference.detector import LEAST_FRAMES, Detector, learn_detector
from pipeline.difference.layers import Allocate
from pipeline.difference.reference import Stack, sample_nearest
from pipeline.difference.robust import measure_spread
from pipeline.difference.subtract import Exposure, Residual, subtract_stack, turn_stamp
from pipeline.difference.transform import Affine
from pipeline.difference.vector import Usual, exceed, flatten, learn_usual
from pipeline.difference.whole import measure_whole

Image = NDArray[np.float32]

_LARGEST_SCATTER = 1e4
_LEAST_SCREENED = 8
_ODD_CHANCE = 0.01
_LEAST_LOG_SPREAD = 0.05
_LEAST_SPREAD = 0.3
_CALM = ("line", "column", "row")
_PRIOR_FRAMES = 2.0
_CHANCE_SIGMA = 2.0


@dataclass(frozen=True, eq=False, slots=True)
class Learnt:
    """What a field's references teach.

    Attributes:
        stack: with its scatter.
        detector: pattern of the detector; None where it cannot be told from the sky.
        usual: heights of its channels.
        vectors: one a reference, each against a stack, a scatter and a usual without it; None where it was not
            registered.
        placed: where each reference lies on the stack; None likewise.
        odd: references, by number, that the others would flag: they have no say in what is usual.
    """

    stack: Stack
    detector: Detector | None
    usual: Usual
    vectors: tuple[NDArray[np.float32] | None, ...]
    placed: tuple[Affine | None, ...]
    odd: tuple[int, ...] = ()


def learn(
    exposures: Sequence[Exposure], priors: Sequence[Affine | None], allocate: Allocate = allocate_in_memory
) -> Learnt:
    """Stack the references, then subtract from each the stack of the others, three times.

    First what stays with the detector is learnt, then how each place of the sky scatters, then with both what a normal
    frame's channels are like.
    """
    pile = pile_up(exposures, priors, allocate)
    detector = _learn_detector(pile, exposures, allocate)
    if detector is not None:
        exposures = [detector.correct(exposure) for exposure in exposures]
        # The stack held the pattern too, smeared over the sky.
        pile = pile_up(exposures, priors, allocate)
    points = np.asanyarray(allocate(pile.layers.light.shape, np.float32), dtype=np.float32)
    squares = _Squares(pile.stack.known.shape)
    for i, exposure in enumerate(exposures):
        if (significance := compare_left_out(pile, exposure, i, None)) is not None:
            points[i] = _to_canvas(pile, i, significance.point)
            squares.add(points[i])
    found: dict[int, Channels] = {}
    for i, exposure in enumerate(exposures):
        scatter = squares.to_scatter(without=points[i])
        if (significance := compare_left_out(pile, exposure, i, scatter)) is not None:
            found[i] = significance.channels
    vectors = {i: _place_left_out(found, i) for i in found}
    odd = sorted({*find_odd(vectors), *find_extreme(found)})
    for i in odd:
        squares.remove(points[i])
    usual = learn_usual([channels for i, channels in found.items() if i not in odd])
    placed = [r.to_reference if r is not None and i in found else None for i, r in enumerate(pile.layers.registrations)]
    stack = replace(pile.stack, scatter=squares.to_scatter())
    members = tuple(vectors.get(i) for i in range(len(exposures)))
    return Learnt(stack, detector, usual, members, tuple(placed), tuple(odd))


def find_odd(vectors: Mapping[int, NDArray[np.float32]]) -> list[int]:
    """References that are themselves so odd that chance made none of them so once in a hundred fields.

    A reference with doubled stars or a cloud would say of anything less odd that it is usual. Like the frames that
    will be judged, each is compared by the logarithm of its amplitude with the others, by Student's t with the half of
    their degrees of freedom for a median of deviations.
    """
    if len(vectors) < _LEAST_SCREENED:
        return []
    every = np.stack(list(vectors.values())).astype(np.float64)
    cosines = every @ every.T
    np.fill_diagonal(cosines, -1)
    logs = np.log(np.maximum(np.sqrt(np.maximum(1 / np.clip(cosines.max(axis=1), 1e-6, 1) ** 2 - 1, 0)), 1e-7))
    chances = [_find_chance(logs, place, _LEAST_LOG_SPREAD) for place in range(len(logs))]
    return [i for i, chance in zip(vectors, chances, strict=True) if chance * len(vectors) < _ODD_CHANCE]


def find_extreme(found: Mapping[int, Channels]) -> list[int]:
    """References with something in one channel that is far beyond all that the others have there: a trail, say.

    The same test of the highest value of each channel that neither rays nor a sky that changes reach.
    """
    if len(found) < _LEAST_SCREENED:
        return []
    highest = [
        [float(np.abs(v).max()) for n, v in channels.flat().items() if n in _CALM] for channels in found.values()
    ]
    columns = np.asarray(highest).T
    chances = np.min([[_find_chance(c, i, _LEAST_SPREAD) for i in range(c.size)] for c in columns], axis=0)
    trials = columns.size
    return [i for i, chance in zip(found, chances.tolist(), strict=True) if chance * trials < _ODD_CHANCE]


def _find_chance(values: NDArray[np.float64], place: int, least: float) -> float:
    """Chance of a value as high among the others, by Student's t with half of their degrees of freedom."""
    others = np.delete(values, place)
    off = others - np.median(others)
    spread = max(measure_spread(off), measure_spread(off[off >= 0]), least)
    t = float(values[place] - np.median(others)) / (spread * math.sqrt(1 + 1 / others.size))
    return float(special.stdtr((others.size - 1) / 2, -t))


def _place_left_out(found: dict[int, Channels], i: int) -> NDArray[np.float32]:
    """The vector of a reference as if it were a new frame: what is usual is what the others say."""
    return flatten(exceed(found[i], learn_usual([channels for k, channels in found.items() if k != i])))


def _learn_detector(pile: Pile, exposures: Sequence[Exposure], allocate: Allocate) -> Detector | None:
    shape = exposures[pile.layers.base].light.shape
    alike = [i for i, e in enumerate(exposures) if e.light.shape == shape and pile.layers.registrations[i] is not None]
    if len(alike) < LEAST_FRAMES:
        return None
    residuals = np.asanyarray(allocate((len(alike), *shape), np.float32), dtype=np.float32)
    known = np.asanyarray(allocate((len(alike), *shape), np.bool_), dtype=np.bool_)
    for place, i in enumerate(alike):
        if (residual := subtract_left_out(pile, exposures[i], i, None)) is not None:
            residuals[place], known[place] = residual.difference, residual.weight > 0
    return learn_detector(residuals, known, float(np.median([exposures[i].noise for i in alike])))


def subtract_left_out(pile: Pile, exposure: Exposure, i: int, scatter: Image | None) -> Residual | None:
    """One reference minus the others; None where it was not registered."""
    at = pile.layers.registrations[i]
    if at is None:
        return None
    stack = pile.leave_out(i)
    if scatter is not None:
        stack = replace(stack, scatter=scatter)
    return subtract_stack(exposure, stack, at)


def compare_left_out(pile: Pile, exposure: Exposure, i: int, scatter: Image | None) -> Significance | None:
    """One reference against the others."""
    residual = subtract_left_out(pile, exposure, i, scatter)
    return None if residual is None else look(residual, pile.stack, exposure.noise)


def look(residual: Residual, stack: Stack, noise: float) -> Significance:
    """Filter what is left of a frame, and say what is wrong with it as a whole.

    Args:
        residual: the frame minus the stack.
        stack: what it was compared with.
        noise: standard deviation of the frame's sky.
    """
    stamp = turn_stamp(stack.psf, residual.registration.to_reference)
    whole = measure_whole(residual.match.psf, stamp, residual.match.flux, noise)
    return measure_channels(residual.difference, residual.weight, residual.match.psf, whole)


def _to_canvas(pile: Pile, i: int, point: Image) -> Image:
    at = pile.layers.registrations[i]
    assert at is not None  # noqa: S101 - it was compared
    return sample_nearest(point, at.to_reference.invert(), pile.stack.known.shape, fill=0.0)


class _Squares:
    """Sums of squared significance over the canvas; 0 is a place that was not seen."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._sum = np.zeros(shape, dtype=np.float32)
        self._count = np.zeros(shape, dtype=np.float32)

    def add(self, point: Image) -> None:
        self._sum += np.square(point)
        self._count += point != 0

    def remove(self, point: Image) -> None:
        self._sum -= np.square(point)
        self._count -= point != 0

    def to_scatter(self, without: Image | None = None) -> Image:
        """Root mean square, spread to where a star may lie next time; 1 counts as so many frames that saw noise."""
        total, count = self._sum, self._count
        if without is not None:
            total, count = total - np.square(without), count - (without != 0)
        mean = (total + np.float32(_PRIOR_FRAMES)) / (count + np.float32(_PRIOR_FRAMES))
        wide = ndimage.maximum_filter(ndimage.uniform_filter(mean, 3, mode="nearest"), 3, mode="nearest")
        # So few frames scatter by chance: only what they cannot explain counts.
        by_chance = 1 + _CHANCE_SIGMA * np.sqrt(2 / (count + np.float32(_PRIOR_FRAMES)))
        return np.asarray(np.sqrt(np.where(wide > by_chance, np.minimum(wide, _LARGEST_SCATTER), 1)), dtype=np.float32)
