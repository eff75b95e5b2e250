"""What was injected where: the rows of `truth.csv`."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from pipeline.simulate.anomalies import Anomaly
from pipeline.simulate.exposure import ExposurePlan, Role
from pipeline.simulate.render import Truth


@dataclass(frozen=True)
class TruthRow:
    """One line of `truth.csv`; what does not apply is None (empty in the file).

    Attributes:
        file: path below the night's folder.
        role: `reference` or `science`.
        field: name of the field.
        kind: kind of the anomaly, or `normal`.
        label: 1 where something was injected, else 0.
        x: column of the injection, px, zero-based.
        y: row of the injection, px, zero-based.
        ra: place of the injection, degrees.
        dec: place of the injection, degrees.
        snr: matched-filter S/N reached.
        flux_e: light added (or lost, negative), electrons.
        magnitude: of points and streaks.
        depth: largest share of light lost, clouds and dead columns.
        angle: degrees from +x towards +y, streaks and trails.
        length: px, streaks.
        width: dead columns.
        date_obs: start of the exposure, UTC.
        dither_x: px.
        dither_y: px.
        rotation_deg: degrees.
        fwhm_px: seeing, px.
        sky_e: electrons per px.
        transparency: share of starlight that arrives.
        sha256: of the file.
    """

    file: str
    role: Role
    field: str
    kind: str
    label: int
    x: float | None
    y: float | None
    ra: float | None
    dec: float | None
    snr: float | None
    flux_e: float | None
    magnitude: float | None
    depth: float | None
    angle: float | None
    length: float | None
    width: int | None
    date_obs: str
    dither_x: float
    dither_y: float
    rotation_deg: float
    fwhm_px: float
    sky_e: float
    transparency: float
    sha256: str


def describe_truth(plan: ExposurePlan, truth: Truth, file: str, sha256: str) -> TruthRow:
    """Put together the row of a frame."""
    anomaly, conditions = plan.anomaly, plan.conditions
    return TruthRow(
        file=file,
        role=plan.role,
        field=plan.field.name,
        kind=plan.kind,
        label=0 if anomaly is None else 1,
        x=None if anomaly is None else anomaly.x,
        y=None if anomaly is None else anomaly.y,
        ra=None if anomaly is None else anomaly.ra,
        dec=None if anomaly is None else anomaly.dec,
        snr=truth.snr,
        flux_e=truth.flux_e,
        magnitude=truth.magnitude,
        depth=truth.depth,
        angle=_keep(anomaly, "angle", "asteroid", "trail", "dead_column"),
        length=_keep(anomaly, "length", "asteroid"),
        width=None if anomaly is None or anomaly.kind != "dead_column" else anomaly.width,
        date_obs=plan.start.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3],
        dither_x=conditions.dither_x,
        dither_y=conditions.dither_y,
        rotation_deg=conditions.rotation_deg,
        fwhm_px=conditions.fwhm_px,
        sky_e=conditions.sky_e,
        transparency=conditions.transparency,
        sha256=sha256,
    )


def format_truth(rows: Sequence[TruthRow]) -> str:
    """Return the text of `truth.csv`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(TruthRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def _keep(anomaly: Anomaly | None, attribute: str, *kinds: str) -> float | None:
    if anomaly is None or anomaly.kind not in kinds:
        return None
    return float(getattr(anomaly, attribute))
