"""What a worker does with a decoded frame and the models of its fields: the `residual` vector, and where things are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.artefact import ModelError, from_bytes
from pipeline.difference.learn import Learnt
from pipeline.difference.localise import Place
from pipeline.difference.subtract import Exposure, expose
from pipeline.difference.transform import Affine
from pipeline.embed.residual import Comparison, compare, map_by_wcs
from pipeline.frame.types import Frame, FrameRow
from pipeline.judge.types import Detection
from pipeline.run.fields import FieldModel, find_models, read_index, site_of

_SHELF_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True)
class Compared:
    """What came of comparing a frame with the models there are.

    Attributes:
        vector: float32, unit length; None where no model could be used.
        model: sha256 (hex) of the one that was used.
        detections: what stands out, strongest first.
        remark: why there is no vector, as the end of a sentence; empty where no model is of its field.
    """

    vector: NDArray[np.float32] | None = None
    model: str | None = None
    detections: tuple[Detection, ...] = ()
    remark: str = ""


class Shelf:
    """Models that were read, the least lately used put away first."""

    def __init__(self, limit: int = _SHELF_BYTES) -> None:
        self._limit = limit
        self._held: OrderedDict[str, tuple[Learnt, int]] = OrderedDict()

    def take(self, model: FieldModel) -> Learnt:
        """Read a model, or find it as it was read before.

        Raises:
            OSError: the artefact cannot be read.
            ModelError: it is none, or of another version.
        """
        if model.model not in self._held:
            content = Path(model.path).read_bytes()
            learnt = from_bytes(content)
            self._held[model.model] = learnt, _measure_size(learnt)
        self._held.move_to_end(model.model)
        while len(self._held) > 1 and sum(size for _, size in self._held.values()) > self._limit:
            self._held.popitem(last=False)
        return self._held[model.model][0]


def _measure_size(learnt: Learnt) -> int:
    stack = learnt.stack
    arrays = (stack.coefficients, stack.known, stack.variance, stack.scatter, stack.stars)
    return sum(array.nbytes for array in arrays) + sum(v.nbytes for v in learnt.vectors if v is not None)


# One a worker process: reading a model takes as long as comparing a frame with it.
_SHELF = Shelf()


def compare_frame(
    frame: Frame, row: FrameRow, index: Path, *, default_radius: float, exposure_factor: float
) -> Compared:
    """Compare a frame with the first model of its field that it can be registered on.

    A frame that is a reference itself answers with the vector that its model kept: the one made without it.

    Args:
        frame: decoded.
        row: its description.
        index: from `write_index`.
        default_radius: degrees, where a footprint is not known.
        exposure_factor: exposures within this factor are comparable.
    """
    remark = ""
    exposure: Exposure | None = None
    for model in find_models(read_index(index), frame.frame_id, site_of(row, default_radius), exposure_factor):
        try:
            learnt = _SHELF.take(model)
        except (OSError, ModelError) as error:
            name = model.model[:12]
            remark = f"the model {name} of its field cannot be read ({error}); run `oddframe reference learn`"
            continue
        if frame.frame_id in model.members:
            return _answer_reference(frame.frame_id, model, learnt)
        exposure = exposure or expose_frame(frame, row)
        found = compare(exposure, learnt, find_prior(row.header, exposure.light.shape, model))
        if isinstance(found, Comparison):
            return Compared(found.vector, model.model, tuple(to_detection(place) for place in found.places))
        remark = found
    return Compared(remark=remark)


def expose_frame(frame: Frame, row: FrameRow) -> Exposure:
    """Take the sky off a frame and list its sources."""
    return expose(frame.pixels, frame.valid, row.quality.ceiling)


def find_prior(header: Mapping[str, str], shape: tuple[int, ...], model: FieldModel) -> Affine | None:
    """The map from a frame to a model's stack that their headers give, or None."""
    if not model.anchor:
        return None
    return map_by_wcs(header, (shape[0], shape[1]), model.anchor, Affine(*model.to_stack))


def _answer_reference(frame_id: str, model: FieldModel, learnt: Learnt) -> Compared:
    vector = learnt.vectors[model.members.index(frame_id)]
    if vector is None:
        return Compared(remark="it is a reference that could not be registered on the others of its field")
    return Compared(vector, model.model)


def to_detection(place: Place) -> Detection:
    """A place as `detections` keeps it."""
    return Detection(place.x, place.y, place.sigma, place.kind, place.size_px, place.angle_deg)
