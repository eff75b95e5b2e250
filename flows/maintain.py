"""Tidy the tables and the vectors."""

from __future__ import annotations

from prefect import State, flow

from flows.artifacts import summarise_maintain, tabulate_steps, tell_maintain
from flows.forms import MaintainOptions
from flows.publish import conclude, publish_story, track_steps
from flows.tasks import load_patient_settings, tidy_home
from pipeline.run.maintain import STEPS

_OPTIONS = MaintainOptions()


@flow(name="maintain")
def maintain(options: MaintainOptions = _OPTIONS) -> State[None]:
    """Merge small files, expire snapshots that nothing names, remove orphans, compact the vectors.

    Args:
        options: Whether anything is changed.
    """
    steps = tidy_home(load_patient_settings(), track_steps("maintain", STEPS), dry_run=options.dry_run)
    message = summarise_maintain(steps)
    publish_story("maintain", tell_maintain(steps), tabulate_steps(steps), message)
    return conclude(message)
