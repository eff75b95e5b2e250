"""Which references may be compared with a frame."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from pipeline.ports import Prefilter


@dataclass(frozen=True, slots=True)
class SearchRules:
    """How wide the prefilter is: exposure factor (dimensionless, >= 1) and optional UTC date range."""

    exposure_factor: float = 2.0
    obs_after: datetime | None = None
    obs_before: datetime | None = None


def build_prefilter(
    *,
    instrument: str | None,
    filter_band: str | None,
    zones: tuple[int, ...],
    exposure_s: float | None,
    rules: SearchRules,
    model: str | None = None,
) -> Prefilter:
    """The prefilter of one frame: same instrument, filter and model, touching zones, exposure within the factor."""
    known = exposure_s is not None
    return Prefilter(
        instrument=instrument,
        filter=filter_band,
        zones=tuple(sorted(zones)),
        exposure_min=exposure_s / rules.exposure_factor if known and exposure_s is not None else None,
        exposure_max=exposure_s * rules.exposure_factor if known and exposure_s is not None else None,
        obs_after=rules.obs_after,
        obs_before=rules.obs_before,
        model=model,
    )


def widen(prefilter: Prefilter) -> Prefilter:
    """The same but for the place: any zone, and none."""
    return replace(prefilter, zones=(), anywhere=True)


def to_json(prefilter: Prefilter) -> str:
    """One line of JSON, kept with the verdict so that it can be replayed."""
    values = asdict(prefilter)
    for key in ("obs_after", "obs_before"):
        moment = values[key]
        values[key] = moment.isoformat() if moment is not None else None
    # The text is part of a verdict's id: those from before there was this word keep theirs.
    if not prefilter.anywhere:
        del values["anywhere"]
    return json.dumps(values, sort_keys=True)


def from_json(text: str) -> Prefilter:
    """The prefilter of a stored verdict."""
    values = json.loads(text)
    values["zones"] = tuple(values["zones"])
    for key in ("obs_after", "obs_before"):
        values[key] = datetime.fromisoformat(values[key]) if values[key] else None
    return Prefilter(**values)


def describe_cell(prefilter: Prefilter) -> str:
    """The cell in words, for reasons and reports."""
    zones = f"sky zone {', '.join(str(z) for z in prefilter.zones) or 'none'}"
    exposure = (
        f"{prefilter.exposure_min:g} to {prefilter.exposure_max:g} s"
        if prefilter.exposure_min is not None and prefilter.exposure_max is not None
        else "unknown"
    )
    return (
        f"instrument {prefilter.instrument or 'unknown'}, filter {prefilter.filter or 'unknown'}, "
        f"{'anywhere on the sky' if prefilter.anywhere else zones}, exposure {exposure}"
        + (f", model {prefilter.model[:12]}" if prefilter.model else "")
    )
