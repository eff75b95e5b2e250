"""Which frames of a field carry which anomaly, and where. Deterministic: the seed decides."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS

from pipeline.errors import UsageError
from pipeline.simulate.anomalies import Anomaly, place_anomaly
from pipeline.simulate.conditions import Kind, Ladder, Preset
from pipeline.simulate.fields import FieldPlan, build_wcs

TRACKLET = 3
# Nothing is placed nearer to an edge than this share of the frame.
RIM = 0.12


@dataclass(frozen=True)
class Mover:
    """An asteroid on its track over a field.

    Attributes:
        x: column at `index`, px, on the frame without dither.
        y: row at `index`, px.
        angle: direction of travel, degrees from +x towards +y.
        length: travel during one exposure, px.
        stride: travel from one exposure of the field to the next, px.
        index: exposure at which it is at (x, y).
    """

    x: float
    y: float
    angle: float
    length: float
    stride: float
    index: int

    def find_sky(self, field: FieldPlan, index: int) -> tuple[float, float]:
        """Return its (ra, dec) in degrees in the middle of an exposure."""
        travelled = (index - self.index) * self.stride
        x = self.x + travelled * math.cos(math.radians(self.angle))
        y = self.y + travelled * math.sin(math.radians(self.angle))
        ra, dec = build_wcs(field, ra=field.ra, dec=field.dec).all_pix2world(x, y, 0)
        return round(float(ra), 9), round(float(dec), 9)


@dataclass(frozen=True)
class Slot:
    """What one exposure is to carry: a kind, its rung on the ladder, and for an asteroid its track."""

    kind: Kind
    level: float
    mover: Mover | None = None


def fill_slots(
    rng: np.random.Generator,
    preset: Preset,
    field: FieldPlan,
    *,
    frames: int,
    share: float,
    turn: int,
    cadence_s: float,
) -> dict[int, Slot]:
    """Decide which of a field's exposures are odd.

    Kinds take turns, so that all are about equally frequent, and so do the rungs of each ladder. Asteroids come as
    tracklets: one object in up to three exposures in a row. Each odd exposure carries exactly one injection; an
    object is not drawn on the frames between, which stay normal.

    Args:
        rng: the source of chance.
        preset: the ladders.
        field: where.
        frames: exposures of the field.
        share: share of them that are odd, 0 to 1.
        turn: which kind comes first, so that fields do not all start with the same.
        cadence_s: seconds from one exposure of the field to its next.

    Returns:
        Index of the exposure -> what it carries.

    Raises:
        UsageError: a share outside 0 to 1.
    """
    if not 0.0 <= share <= 1.0:
        raise UsageError(f"the share of anomalies must lie between 0 and 1, not {share}")
    wanted = _share_out(preset, round(share * frames), turn)
    slots: dict[int, Slot] = {}
    # Tracklets first: they need exposures in a row, the others take what is left.
    for ladder in sorted(wanted, key=lambda ladder: ladder.kind != "asteroid"):
        left, number = wanted[ladder], turn
        while left > 0:
            moves = ladder.kind == "asteroid"
            run = _find_run(rng, frames, slots, min(TRACKLET, left) if moves else 1)
            mover = _draw_mover(rng, field, run, cadence_s) if moves else None
            level = ladder.levels[number % len(ladder.levels)]
            slots.update(dict.fromkeys(run, Slot(ladder.kind, level, mover)))
            left, number = left - len(run), number + 1
    return slots


def draw_anomaly(rng: np.random.Generator, slot: Slot, field: FieldPlan, wcs: WCS, *, index: int) -> Anomaly:
    """Place what a slot asks for on an exposure with the given world coordinates."""
    pattern = int(rng.integers(2**31))
    pixel = _draw_place(rng, field)
    if slot.mover is not None:
        sky = slot.mover.find_sky(field, index)
        return place_anomaly(slot.kind, wcs, sky=sky, snr=slot.level, angle=slot.mover.angle, length=slot.mover.length)
    if slot.kind == "supernova":
        return place_anomaly(slot.kind, wcs, sky=_find_host(rng, field, wcs, pixel), snr=slot.level)
    if slot.kind == "cloud":
        return place_anomaly(slot.kind, wcs, pixel=pixel, depth=slot.level, pattern=pattern)
    if slot.kind == "trail":
        angle = round(rng.uniform(0.0, 180.0), 4)
        return place_anomaly(slot.kind, wcs, pixel=pixel, snr=slot.level, angle=angle)
    if slot.kind == "dead_column":
        middle = (float(round(pixel[0])), (field.shape[0] - 1) / 2.0)
        return place_anomaly(slot.kind, wcs, pixel=middle, snr=slot.level, angle=90.0)
    middle = (float(round(pixel[0])), float(round(pixel[1])))
    return place_anomaly(slot.kind, wcs, pixel=middle, snr=slot.level, pattern=pattern)


def _share_out(preset: Preset, count: int, turn: int) -> Counter[Ladder]:
    ladders = preset.ladders
    if not ladders:
        return Counter()
    return Counter(ladders[(turn + k) % len(ladders)] for k in range(count))


def _draw_place(rng: np.random.Generator, field: FieldPlan) -> tuple[float, float]:
    height, width = field.shape
    x, y = rng.uniform(RIM * width, (1.0 - RIM) * width), rng.uniform(RIM * height, (1.0 - RIM) * height)
    return round(x, 3), round(y, 3)


def _draw_mover(rng: np.random.Generator, field: FieldPlan, run: list[int], cadence_s: float) -> Mover:
    length = round(rng.uniform(2.0, 6.0), 3)
    angle = round(rng.uniform(0.0, 360.0), 3)
    x, y = _draw_place(rng, field)
    # It passes its place at the middle of its run; small frames slow it down, so that it stays on all of them.
    stride = min(length * cadence_s / field.exposure_s, RIM * min(field.shape) / TRACKLET)
    return Mover(x, y, angle, min(length, stride), stride, run[len(run) // 2])


def _find_run(rng: np.random.Generator, frames: int, taken: dict[int, Slot], most: int) -> list[int]:
    for size in range(most, 0, -1):
        starts = [
            first
            for first in range(frames - size + 1)
            if not any(index in taken for index in range(first, first + size))
        ]
        if starts:
            first = starts[int(rng.integers(len(starts)))]
            return list(range(first, first + size))
    raise UsageError("no exposure is left for another anomaly")


def _find_host(
    rng: np.random.Generator, field: FieldPlan, wcs: WCS, otherwise: tuple[float, float]
) -> tuple[float, float]:
    catalogue = field.catalogue
    height, width = field.shape
    x, y = wcs.all_world2pix(catalogue.galaxy_ra, catalogue.galaxy_dec, 0)
    inside = (x > RIM * width) & (x < (1 - RIM) * width) & (y > RIM * height) & (y < (1 - RIM) * height)
    hosts = np.flatnonzero(inside)
    turn, distance = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.2, 0.8)
    if hosts.size == 0:
        ra, dec = wcs.all_pix2world(*otherwise, 0)
    else:
        host = hosts[int(rng.integers(hosts.size))]
        reach = distance * catalogue.galaxy_fwhm[host] / field.scale
        ra, dec = wcs.all_pix2world(x[host] + reach * math.cos(turn), y[host] + reach * math.sin(turn), 0)
    return round(float(ra), 9), round(float(dec), 9)
