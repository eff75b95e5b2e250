"""Simulated nights with a known truth: for the demo, for tests, and for measuring what would be missed."""

from pipeline.simulate.anomalies import Anomaly, place_anomaly
from pipeline.simulate.conditions import KINDS, PRESETS, Conditions, Kind, Ladder, Preset
from pipeline.simulate.emulator import feed
from pipeline.simulate.exposure import ExposurePlan, Role, build_header, to_fits_bytes
from pipeline.simulate.fields import FieldPlan, build_wcs, make_field
from pipeline.simulate.night import plan_night, write_night
from pipeline.simulate.render import Rendered, Truth, render_exposure, render_with_truth
from pipeline.simulate.truth import TruthRow

__all__ = [
    "KINDS",
    "PRESETS",
    "Anomaly",
    "Conditions",
    "ExposurePlan",
    "FieldPlan",
    "Kind",
    "Ladder",
    "Preset",
    "Rendered",
    "Role",
    "Truth",
    "TruthRow",
    "build_header",
    "build_wcs",
    "feed",
    "make_field",
    "place_anomaly",
    "plan_night",
    "render_exposure",
    "render_with_truth",
    "to_fits_bytes",
    "write_night",
]
