"""`residual`: what stands out of a frame once the field's reference is subtracted, flattened, unit length.

Unlike the other embeddings it takes a model of the field, learnt from its references; see `pipeline/difference`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.channels import Significance
from pipeline.difference.learn import Learnt, look
from pipeline.difference.localise import Place, localise
from pipeline.difference.psf import measure_sigma
from pipeline.difference.subtract import Exposure, Residual, subtract
from pipeline.difference.transform import Affine, fit_affine
from pipeline.difference.vector import Usual, exceed, flatten, level_signed, rate_heights
from pipeline.frame.places import pixel_to_pixel

LEAST_OVERLAP = 0.25
"""Share of a frame that must lie on what its references cover."""

_FWHM_OF_SIGMA = 2.3548
_LEAST_RARITY = 4.0
_CHANNEL_OF_KIND = {
    "point": "point",
    "streak": "streak",
    "hot_pixels": "sharp",
    "trail": "line",
    "column": "column",
    "row": "row",
    "extended": "sky",
    "defocus": "whole",
    "tracking": "whole",
    "exposure": "whole",
}


@dataclass(frozen=True, eq=False, slots=True)
class Comparison:
    """A frame against its field's model.

    Attributes:
        vector: float32 (DIMENSION,), unit length.
        places: what stands out, strongest first.
        residual: frame minus reference.
        found: what the filters said of it.
    """

    vector: NDArray[np.float32]
    places: tuple[Place, ...]
    residual: Residual
    found: Significance


def compare(exposure: Exposure, learnt: Learnt, prior: Affine | None) -> Comparison | str:
    """Subtract the model's reference from a frame and flatten what is left.

    Args:
        exposure: the frame.
        learnt: the model of its field.
        prior: the map from the frame to the stack that the headers give, or None.

    Returns:
        Why it cannot be compared, as the end of a sentence, where it cannot.
    """
    frame = exposure if learnt.detector is None else learnt.detector.correct(exposure)
    if frame.noise <= 0:
        return "it has no noise to measure anything by"
    residual = subtract(frame, learnt.stack, prior)
    if residual is None:
        return f"its {len(frame.sources)} stars cannot be found among the {len(learnt.stack.sources)} of its references"
    share = float(np.mean(residual.weight > 0))
    if share < LEAST_OVERLAP:
        return f"only {share:.0%} of it lies on what its references cover"
    found = look(residual, learnt.stack, frame.noise)
    vector = flatten(exceed(found.channels, learnt.usual))
    found = replace(found, channels=level_signed(found.channels, learnt.usual))
    places = list_unusual(localise(found, measure_fwhm(residual.match.psf)), learnt.usual)
    return Comparison(vector, places, residual, found)


def list_unusual(places: Sequence[Place], usual: Usual, *, at_least: int = 1) -> tuple[Place, ...]:
    """Those places that are higher than the references' own; the first of all where fewer are.

    A share of the cells of any normal frame lies above the level of its channel: of these one in fifty lies as far
    above it as is asked for here.
    """
    kept = tuple(p for p in places if _rate(p, usual) >= _LEAST_RARITY)
    return kept if len(kept) >= at_least else tuple(places[:at_least])


def _rate(place: Place, usual: Usual) -> float:
    channel = "hole" if place.kind == "point" and place.sigma < 0 else _CHANNEL_OF_KIND[place.kind]
    return float(rate_heights(np.asarray(abs(place.sigma)), channel, usual))


def measure_fwhm(psf: NDArray[np.float32]) -> float:
    """Full width at half maximum of the Gaussian that is as peaked as a stamp, px."""
    return _FWHM_OF_SIGMA * measure_sigma(psf)


def map_by_wcs(
    header: Mapping[str, str], shape: tuple[int, int], anchor: Mapping[str, str], to_stack: Affine
) -> Affine | None:
    """The map from a frame to a stack by the WCS of the frame and of one reference; None where one has none.

    Args:
        header: of the frame, keyword -> text.
        shape: (height, width) of the frame.
        anchor: WCS cards of the reference.
        to_stack: from the reference to the stack.
    """
    xs, ys = (np.linspace(0, length - 1, 3) for length in reversed(shape))
    x, y = (values.ravel() for values in np.meshgrid(xs, ys))
    found = pixel_to_pixel(header, anchor, list(zip(x.tolist(), y.tolist(), strict=True)))
    at = None if found is None else fit_affine(x, y, found[:, 0], found[:, 1])
    # What stretches or mirrors is of another camera, or no WCS to go by.
    return to_stack.after(at) if at is not None and at.is_sound() else None
