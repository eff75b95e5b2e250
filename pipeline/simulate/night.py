"""Nights: an ordered list of planned exposures, and the folder of files with its truth beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from pipeline.errors import UsageError
from pipeline.simulate.conditions import Preset, draw_conditions, find_preset
from pipeline.simulate.exposure import SITE_LATITUDE_DEG, ExposurePlan, Role, compute_sidereal_deg, to_fits_bytes
from pipeline.simulate.fields import FieldPlan, dither_wcs, make_field
from pipeline.simulate.files import make_directory, write_whole
from pipeline.simulate.render import render_with_truth
from pipeline.simulate.schedule import draw_anomaly, fill_slots
from pipeline.simulate.truth import TruthRow, describe_truth, format_truth
from pipeline.simulate.turns import list_turns

DEFAULT_START = datetime(2026, 3, 12, 2, 0, tzinfo=UTC)
REFERENCE_LEAD = timedelta(days=7)
READOUT_S = 15.0
FILTERS = ("r", "g", "i")
INSTRUMENTS = ("oddcam-1", "oddcam-2")
FOLDERS: dict[Role, str] = {"reference": "references", "science": "night"}
TRUTH_NAME = "truth.csv"
SMALLEST_SIDE_PX = 32


def plan_night(
    seed: int,
    *,
    preset: str | Preset = "demo",
    fields: int = 2,
    references: int = 20,
    frames: int = 40,
    anomaly_share: float | None = None,
    bad_reference_share: float = 0.0,
    reference_nights: int | None = None,
    shape: tuple[int, int] = (512, 512),
    exposure_s: float = 60.0,
    start: datetime = DEFAULT_START,
) -> list[ExposurePlan]:
    """Plan a night: reference frames of earlier nights first, then the science frames, the fields in turn.

    The fields hang on seed, preset, shape and exposure alone, so another start gives another night of the same sky.

    Args:
        seed: fixes everything.
        preset: conditions and anomalies, by name or as a `Preset`.
        fields: number of fields.
        references: reference frames per field.
        frames: science frames per field.
        anomaly_share: share of the science frames that are odd; the preset's own where None.
        bad_reference_share: share of the reference frames that are odd too, for tests of the reference audit.
        reference_nights: nights the references are dealt out over, at most one for each; 0 for a night of its own for
            each; the preset's own where None. What else is drawn for a frame does not hang on it.
        shape: (height, width), px.
        exposure_s: seconds.
        start: start of the first science exposure; without a time zone it is taken as UTC.

    Raises:
        UsageError: an unknown preset, or a number that makes no sense.
    """
    chosen = find_preset(preset)
    _refuse_nonsense(seed=seed, fields=fields, references=references, frames=frames, shape=shape, exposure_s=exposure_s)
    start = (start if start.tzinfo is not None else start.replace(tzinfo=UTC)).astimezone(UTC)
    sky = [_make_field(seed, number, chosen, shape, exposure_s) for number in range(fields)]
    share = chosen.anomaly_share if anomaly_share is None else anomaly_share
    nights = chosen.reference_nights if reference_nights is None else reference_nights
    earlier = start - REFERENCE_LEAD
    return [
        *_plan_batch(
            seed,
            chosen,
            sky,
            role="reference",
            count=references,
            share=bad_reference_share,
            begin=earlier,
            nights=nights,
        ),
        *_plan_batch(seed, chosen, sky, role="science", count=frames, share=share, begin=start, nights=1),
    ]


def write_night(
    plans: Sequence[ExposurePlan],
    directory: Path,
    progress: Callable[[int, int], None] | None = None,
) -> list[TruthRow]:
    """Render and write a night: `references/`, `night/` and `truth.csv`.

    Every file appears whole or not at all. Writing the same plan again leaves the same bytes.

    Args:
        plans: what `plan_night` gave.
        directory: made where missing.
        progress: told (frames done, frames in all) after each.

    Returns:
        The rows of `truth.csv`, in the order of the plans.

    Raises:
        UsageError: the folder already holds frames of another night, or cannot be made.
        TransientError: the disk did not take a file.
    """
    _refuse_mixing(plans, directory)
    for folder in FOLDERS.values():
        make_directory(directory / folder)
    rows: list[TruthRow] = []
    for done, plan in enumerate(plans, start=1):
        rendered = render_with_truth(plan)
        content = to_fits_bytes(rendered.pixels, rendered.header)
        place = f"{FOLDERS[plan.role]}/{plan.name}"
        write_whole(directory / place, content)
        rows.append(describe_truth(plan, rendered.truth, place, hashlib.sha256(content).hexdigest()))
        if progress is not None:
            progress(done, len(plans))
    write_whole(directory / TRUTH_NAME, format_truth(rows).encode())
    return rows


def _refuse_mixing(plans: Sequence[ExposurePlan], directory: Path) -> None:
    for role, folder in FOLDERS.items():
        mine = {plan.name for plan in plans if plan.role == role}
        strange = sorted(path.name for path in (directory / folder).glob("*.fits") if path.name not in mine)
        if strange:
            raise UsageError(f"{directory / folder} already holds another night ({strange[0]}): choose an empty folder")


def _refuse_nonsense(
    *, seed: int, fields: int, references: int, frames: int, shape: tuple[int, int], exposure_s: float
) -> None:
    if min(seed, references, frames) < 0 or fields < 1:
        raise UsageError("a night needs a seed of 0 or more, at least one field, and no negative number of frames")
    if min(shape) < SMALLEST_SIDE_PX or not exposure_s > 0.0:
        raise UsageError(f"a frame needs {SMALLEST_SIDE_PX} px or more each way, and an exposure longer than 0 s")


def _plan_batch(
    seed: int,
    preset: Preset,
    sky: Sequence[FieldPlan],
    *,
    role: Role,
    count: int,
    share: float,
    begin: datetime,
    nights: int,
) -> list[ExposurePlan]:
    spacing = len(sky) * _find_cadence(sky[0])
    turns = list_turns(seed, begin=begin, count=count, nights=nights, spacing=spacing)
    # The minute of the night is part of the seed: another night of the same fields has noise of its own.
    minute = int(begin.timestamp()) // 60
    runs = [
        _plan_field((seed, number, minute), preset, field, role=role, turns=turns, spacing=spacing, share=share)
        for number, field in enumerate(sky)
    ]
    return [plan for turn in zip(*runs, strict=True) for plan in turn]


def _make_field(seed: int, number: int, preset: Preset, shape: tuple[int, int], exposure_s: float) -> FieldPlan:
    # Two irrational steps spread any number of fields over the sky near the zenith without ever repeating
    # (Roberts' R2 sequence), so that no two fields share a sky zone.
    overhead = compute_sidereal_deg(DEFAULT_START) + 8.0
    ra = (overhead + 50.0 * ((0.5 + 0.7548776662 * number) % 1.0 - 0.5)) % 360.0
    dec = SITE_LATITUDE_DEG + 40.0 * ((0.5 + 0.5698402910 * number) % 1.0 - 0.5)
    return make_field(
        (seed, number),
        name=f"ODD-F{number + 1:02d}",
        ra=round(ra, 6),
        dec=round(dec, 6),
        shape=shape,
        filter_band=FILTERS[number % len(FILTERS)],
        instrument=INSTRUMENTS[number % len(INSTRUMENTS)],
        exposure_s=exposure_s,
        flux_range_e=preset.flux_range_e,
    )


def _plan_field(
    base: tuple[int, int, int],
    preset: Preset,
    field: FieldPlan,
    *,
    role: Role,
    turns: Sequence[datetime],
    spacing: timedelta,
    share: float,
) -> list[ExposurePlan]:
    _, number, _ = base
    rng = np.random.default_rng(base)
    slots = fill_slots(
        rng, preset, field, frames=len(turns), share=share, turn=number, cadence_s=spacing.total_seconds()
    )
    plans = []
    for index, turn in enumerate(turns):
        conditions = draw_conditions(rng, preset)
        wcs = dither_wcs(
            field,
            dither_x=conditions.dither_x,
            dither_y=conditions.dither_y,
            rotation_deg=conditions.rotation_deg,
        )
        slot = slots.get(index)
        anomaly = None if slot is None else draw_anomaly(rng, slot, field, wcs, index=index)
        start = turn + number * _find_cadence(field)
        name = f"{field.name.lower()}-{field.filter_band}-{start:%Y%m%dT%H%M%S}.fits"
        plans.append(ExposurePlan(name, role, field, conditions, anomaly, start, (*base, index)))
    return plans


def _find_cadence(field: FieldPlan) -> timedelta:
    return timedelta(seconds=field.exposure_s + READOUT_S)
