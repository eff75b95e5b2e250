"""Move originals that grew old out of the way."""

from __future__ import annotations

from prefect import State, flow
from prefect.states import Failed

from flows.artifacts import count_problems, list_problems, summarise_archive, tabulate_steps, tell_archive
from flows.forms import ArchiveOptions
from flows.publish import conclude, publish_story, track_steps
from flows.tasks import check_archive, load_patient_settings, move_originals

_OPTIONS = ArchiveOptions()
_STEPS = ("originals", "checksums")


@flow(name="archive")
def archive(options: ArchiveOptions = _OPTIONS) -> State[None]:
    """Archive old originals and read some of the archive again; nothing unproved is deleted.

    Args:
        options: What counts as old, and whether anything is changed.
    """
    settings = load_patient_settings()
    if options.older_than_days is not None:
        chosen = settings.archive.model_copy(update={"after_days": options.older_than_days})
        settings = settings.model_copy(update={"archive": chosen})
    tell = track_steps("archive", _STEPS)
    steps = [
        move_originals(settings, tell, dry_run=options.dry_run),
        check_archive(settings, tell, options.sample),
    ]
    message = summarise_archive(steps)
    publish_story("archive", tell_archive(steps), tabulate_steps(steps), message)
    if count_problems(steps):
        return Failed(message=f"{message} {list_problems(steps)[0]}")
    return conclude(message)
