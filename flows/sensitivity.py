"""What the newest night would have missed, measured by injected light."""

from __future__ import annotations

from prefect import State, flow, get_run_logger

from flows.artifacts import tabulate_sensitivity, tell_sensitivity
from flows.forms import SensitivityOptions
from flows.publish import conclude, publish_curves, publish_story
from flows.tasks import load_patient_settings, try_injected
from pipeline.wiring import open_lake

_OPTIONS = SensitivityOptions()


@flow(name="sensitivity")
def sensitivity(options: SensitivityOptions = _OPTIONS) -> State[None]:
    """Inject known light into copies of a night's normal frames, look for it with the same code, keep the recall.

    Args:
        options: Which night, and how much is tried.
    """
    with open_lake(load_patient_settings()) as lake:
        curves = try_injected(lake, options.night, options.trials, get_run_logger().info)
        lines = [row for curve in curves for row in curve.to_rows(lake)]
    message = f"{len(curves)} curves of {len({curve.model for curve in curves})} fields."
    publish_story("sensitivity", tell_sensitivity(lines), tabulate_sensitivity(lines), message)
    publish_curves(curves)
    return conclude(message)
