"""The references of one field, read again from the bytes that were kept, and the model they make together."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.difference.learn import Learnt, learn
from pipeline.difference.subtract import Exposure
from pipeline.difference.transform import Affine
from pipeline.embed.residual import map_by_wcs
from pipeline.errors import UnreadableFrameError
from pipeline.frame.fits import decode
from pipeline.frame.header import describe
from pipeline.frame.places import pick_wcs_cards
from pipeline.frame.types import FrameRow
from pipeline.run.compare import expose_frame
from pipeline.run.lake import Lake

Progress = Callable[[str], None]

_ON_DISK_BYTES = 32 * 2**20
_AUDIT_ROUNDS = 2


@dataclass(frozen=True, eq=False, slots=True)
class Studied:
    """A model, and what it was made of.

    Attributes:
        learnt: the model.
        ids: references it was learnt from, in the order of its vectors.
        left_out: references that it does without.
        anchor: WCS cards of one of them; empty where none has a WCS.
        to_stack: from the pixels of that one to the stack.
    """

    learnt: Learnt
    ids: tuple[str, ...]
    left_out: tuple[str, ...]
    anchor: dict[str, str]
    to_stack: Affine

    @property
    def registered(self) -> tuple[str, ...]:
        """Those of `ids` that could be registered and are none of the odd ones: what frames are compared with."""
        vectors = zip(self.ids, self.learnt.vectors, strict=True)
        return tuple(i for i, vector in vectors if vector is not None and i not in self.odd)

    @property
    def odd(self) -> tuple[str, ...]:
        """Those of `ids` that the others would flag."""
        return tuple(self.ids[i] for i in self.learnt.odd)


class Material:
    """References of one field, ready to be learnt from."""

    def __init__(self, lake: Lake, rows: Mapping[str, Mapping[str, Any]], on_progress: Progress) -> None:
        self._lake = lake
        self._headers: dict[str, FrameRow] = {}
        self._exposures: dict[str, Exposure] = {}
        for frame_id, row in rows.items():
            on_progress(str(row["name"]))
            self._read(frame_id)

    def _read(self, frame_id: str) -> None:
        place = self._lake.originals.locate(frame_id)
        if place is None:
            return
        try:
            frame = decode(place.read_bytes(), name=frame_id, limits=self._lake.plan.limits, frame_id=frame_id)
        except UnreadableFrameError:
            # It was read once; what became of it since is told by `verify`, and here by its absence from the model.
            return
        row = describe(frame, self._lake.plan.sky)
        exposure = expose_frame(frame, row)
        if exposure.noise > 0:
            self._headers[frame_id] = row
            light, usable = (_put_on_disk(array) for array in (exposure.light, exposure.usable))
            self._exposures[frame_id] = replace(exposure, light=light, usable=usable)

    def study(self) -> Studied | None:
        """Learn; where bad references are to be left out, find them and learn again without."""
        left_out: list[str] = []
        for _ in range(_AUDIT_ROUNDS):
            ids = tuple(i for i in self._exposures if i not in left_out)
            if len(ids) < self._lake.rules.min_references:
                return None
            anchor = next((i for i in ids if pick_wcs_cards(self._headers[i].header)), None)
            learnt = learn(
                [self._exposures[i] for i in ids], [self._find_prior(i, anchor) for i in ids], allocate_where_it_fits
            )
            if not learnt.odd or left_out or not self._lake.rules.leave_out_bad:
                break
            left_out += [ids[i] for i in learnt.odd]
        at = learnt.placed[ids.index(anchor)] if anchor is not None else None
        cards = pick_wcs_cards(self._headers[anchor].header) if anchor is not None and at is not None else {}
        return Studied(learnt, ids, tuple(left_out), cards, at or Affine())

    def _find_prior(self, frame_id: str, anchor: str | None) -> Affine | None:
        """To the pixels of the anchor, by the WCS of both."""
        if anchor is None:
            return None
        if frame_id == anchor:
            return Affine()
        row, cards = self._headers[frame_id], pick_wcs_cards(self._headers[anchor].header)
        return map_by_wcs(row.header, (row.height, row.width), cards, Affine())


def allocate_where_it_fits(shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
    """Zeros; in a file that goes with the process where they are many."""
    if int(np.prod(shape)) * np.dtype(kind).itemsize <= _ON_DISK_BYTES:
        return np.zeros(shape, dtype=kind)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=kind, mode="w+", shape=shape)


def _put_on_disk(array: NDArray[Any]) -> NDArray[Any]:
    if array.nbytes <= _ON_DISK_BYTES:
        return array
    placed = allocate_where_it_fits(array.shape, array.dtype.type)
    placed[...] = array
    return placed
