"""Fields: references that look at the same sky alike, and the model that was learnt from each group of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.frame.types import FrameRow
from pipeline.store.filters import fit_text

SHARE_OF_RADIUS = 0.7
"""Frames whose centres lie farther apart than this share of half their diagonal are of two fields: less than half of
a square frame lies on the other then."""

MOST_TRIED = 3
"""Models a frame is tried against, nearest first."""

KIND = "residual"
"""Of a row of `models`."""


@dataclass(frozen=True, slots=True)
class Site:
    """What decides which field a frame belongs to; degrees and seconds."""

    instrument: str | None
    filter: str | None
    exposure_s: float | None
    ra: float | None
    dec: float | None
    radius: float

    def is_alike(self, other: Site, exposure_factor: float) -> bool:
        """Whether both look at the same sky through the same optics, exposed alike."""
        if any(
            fit_text(a) != fit_text(b) for a, b in ((self.instrument, other.instrument), (self.filter, other.filter))
        ):
            return False
        if not _expose_alike(self.exposure_s, other.exposure_s, exposure_factor):
            return False
        apart = self.measure_separation(other)
        return apart is not None and apart <= SHARE_OF_RADIUS * max(self.radius, other.radius)

    def measure_separation(self, other: Site) -> float | None:
        """Degrees between the centres; 0 where neither knows its own, None where one of them does."""
        if self.ra is None or self.dec is None or other.ra is None or other.dec is None:
            return 0.0 if self.ra is None and other.ra is None else None
        lat, lat0 = math.radians(self.dec), math.radians(other.dec)
        # By the haversine, which keeps its digits at small angles.
        half = (
            math.sin((lat - lat0) / 2) ** 2
            + math.cos(lat) * math.cos(lat0) * math.sin(math.radians(self.ra - other.ra) / 2) ** 2
        )
        return math.degrees(2 * math.asin(math.sqrt(min(1.0, half))))


def _expose_alike(one: float | None, other: float | None, factor: float) -> bool:
    if one is None or other is None:
        return one is None and other is None
    return one <= other * factor and other <= one * factor


def site_of(row: FrameRow, default_radius: float) -> Site:
    """Of a frame that was described."""
    at = row.pointing
    return Site(row.instrument, row.filter, row.exposure_s, at.ra, at.dec, at.radius or default_radius)


def site_of_row(row: Mapping[str, Any], default_radius: float) -> Site:
    """Of a row of `frames`."""
    return Site(
        row["instrument"], row["filter"], row["exposure_s"], row["ra"], row["dec"], row["radius_deg"] or default_radius
    )


def group_fields(sites: Mapping[str, Site], exposure_factor: float) -> list[tuple[Site, tuple[str, ...]]]:
    """Share references out among fields: each joins the first whose founder it is alike, or founds one.

    Args:
        sites: by frame id; their order decides who founds a field, so that a later reference never moves earlier ones.
        exposure_factor: exposures within this factor are comparable.

    Returns:
        Founder and frame ids of each field.
    """
    fields: list[tuple[Site, list[str]]] = []
    for frame_id, site in sites.items():
        for founder, ids in fields:
            if founder.is_alike(site, exposure_factor):
                ids.append(frame_id)
                break
        else:
            fields.append((site, [frame_id]))
    return [(founder, tuple(ids)) for founder, ids in fields]


@dataclass(frozen=True, slots=True)
class FieldModel:
    """A model as a worker finds it.

    Attributes:
        model: sha256 (hex) of its artefact.
        site: of the field's founder.
        members: the references it was learnt from, in the order of its vectors.
        registered: those of them that frames are compared with.
        odd: those of them that the others would flag.
        anchor: WCS cards of one of them; empty where none has a WCS.
        to_stack: six numbers of the map from that one to the stack.
        path: where the artefact can be read.
    """

    model: str
    site: Site
    members: tuple[str, ...]
    registered: tuple[str, ...]
    odd: tuple[str, ...]
    anchor: Mapping[str, str]
    to_stack: tuple[float, ...]
    path: str = ""


def write_index(models: Iterable[FieldModel]) -> bytes:
    """What `read_index` reads; the same models give the same bytes."""
    entries = sorted((asdict(model) for model in models), key=lambda entry: str(entry["model"]))
    return json.dumps(entries, sort_keys=True).encode()


@lru_cache(maxsize=2)
def read_index(path: Path) -> tuple[FieldModel, ...]:
    """The models a worker may use; `path` is named by its content, so what was read stays true."""
    return tuple(
        FieldModel(
            model=entry["model"],
            site=Site(**entry["site"]),
            members=tuple(entry["members"]),
            registered=tuple(entry["registered"]),
            odd=tuple(entry["odd"]),
            anchor=entry["anchor"],
            to_stack=tuple(entry["to_stack"]),
            path=entry["path"],
        )
        for entry in json.loads(path.read_bytes())
    )


def find_models(
    models: Sequence[FieldModel], frame_id: str, site: Site, exposure_factor: float
) -> Iterator[FieldModel]:
    """Models a frame may be compared with: the one it is a reference of, or the nearest few."""
    for model in models:
        if frame_id in model.members:
            yield model
            return
    alike = [model for model in models if model.site.is_alike(site, exposure_factor)]
    yield from sorted(alike, key=lambda model: (model.site.measure_separation(site), model.model))[:MOST_TRIED]
