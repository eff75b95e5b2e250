"""What a model left of a frame, once more to be looked at: the nearest reference on its pixels, and the residual."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.artefact import ModelError, from_bytes
from pipeline.difference.reference import sample_nearest, sample_spline, spline_coefficients
from pipeline.difference.transform import Affine
from pipeline.embed.residual import Comparison, compare
from pipeline.errors import StoreError, UnreadableFrameError
from pipeline.frame.fits import decode
from pipeline.frame.header import describe
from pipeline.frame.types import DecodeLimits, Frame, SkyRules
from pipeline.judge.prefilter import from_json
from pipeline.ports import OriginalStore, TableStore
from pipeline.run.compare import expose_frame, find_prior
from pipeline.run.models import find_model_row, to_model


@dataclass(frozen=True, eq=False, slots=True)
class Unveiled:
    """Two images on a frame's own pixels.

    Attributes:
        reference: the nearest reference as the frame would see it, its sky plane gone; NaN where it says nothing.
        significance: of a point source at each pixel, once the field's reference is subtracted; NaN where masked.
    """

    reference: NDArray[np.float32] | None
    significance: NDArray[np.float32]


def unveil(
    originals: OriginalStore,
    models: OriginalStore,
    tables: TableStore,
    verdict: Mapping[str, Any],
    limits: DecodeLimits,
) -> Unveiled | None:
    """Subtract a frame's reference again, as its verdict did.

    Args:
        originals: where the bytes are kept.
        models: where the artefacts are kept.
        tables: where models are listed.
        verdict: a row of `verdicts`.
        limits: what a frame may cost.

    Returns:
        None where the verdict took no model, or what it was made from is not kept any more.
    """
    name = from_json(verdict["prefilter"]).model if verdict["prefilter"] else None
    if name is None:
        return None
    try:
        model = to_model(find_model_row(tables, name))
        place = models.locate(name)
        learnt = from_bytes(place.read_bytes()) if place is not None else None
    except (StoreError, OSError, ModelError):
        return None
    frame = _decode(originals, verdict["frame_id"], limits)
    if learnt is None or frame is None:
        return None
    row = describe(frame, SkyRules())
    exposure = expose_frame(frame, row)
    found = compare(exposure, learnt, find_prior(row.header, exposure.light.shape, model))
    if not isinstance(found, Comparison):
        return None
    significance = np.where(found.residual.weight > 0, found.found.point, np.float32(np.nan))
    others = [n["frame_id"] for n in verdict["neighbours"] or () if n["frame_id"] != verdict["frame_id"]]
    nearest = next((i for i in others if i in model.registered), None)
    at = learnt.placed[model.members.index(nearest)] if nearest is not None else None
    other = _decode(originals, nearest, limits) if nearest is not None else None
    if at is None or other is None:
        return Unveiled(None, significance)
    return Unveiled(_lay_on(other, at.invert().after(found.residual.registration.to_reference), frame), significance)


def _decode(originals: OriginalStore, frame_id: str, limits: DecodeLimits) -> Frame | None:
    place = originals.locate(frame_id)
    try:
        return decode(place.read_bytes(), name=frame_id, limits=limits, frame_id=frame_id) if place else None
    except (OSError, UnreadableFrameError):
        return None


def _lay_on(other: Frame, to_other: Affine, frame: Frame) -> NDArray[np.float32]:
    shape = (frame.pixels.shape[0], frame.pixels.shape[1])
    filled = np.where(other.valid, other.pixels, np.float32(np.median(other.pixels[other.valid])))
    light = sample_spline(spline_coefficients(filled), to_other, shape)
    known = sample_nearest(other.valid, to_other, shape, fill=False)
    return np.where(known, light, np.float32(np.nan))
