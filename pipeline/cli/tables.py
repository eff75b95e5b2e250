"""`verify`, `archive` and `doctor`: prove, tidy, examine."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.app import COMMON, EXIT_DIFFERENCE, Common
from pipeline.cli.output import print_answer, print_json, print_lines, remark, show, show_progress
from pipeline.cli.ranges import Days
from pipeline.run.doctor import examine
from pipeline.settings import load_settings
from pipeline.wiring import archive_home, find_home, list_probes, open_lake


def verify(*, repair: Annotated[bool, Parameter(negative="")] = False, common: Common = COMMON) -> int:
    """Prove that source, tables, vectors and originals agree; exit code 1 if they do not.

    Parameters
    ----------
    repair
        Mend what can be mended, then verify again.
    """
    from pipeline.run.repair import repair_lake  # noqa: PLC0415 - repairing loads the decoder
    from pipeline.run.verify import count_wrong, verify_lake  # noqa: PLC0415

    with open_lake(find_home(load_settings(common.home))) as lake:
        checks = verify_lake(lake)
        if repair and count_wrong(checks):
            checks = repair_lake(lake, checks)
    lines = [check.to_json() for check in checks]
    print_lines(lines, as_json=common.json, columns=("check", "ok", "expected", "found", "examples", "repair"))
    wrong = count_wrong(checks)
    if wrong and not common.json:
        advice = "" if repair else "; `oddframe verify --repair` mends what can be mended"
        remark(f"{wrong} of {len(checks)} checks found differences{advice}")
    return EXIT_DIFFERENCE if wrong else 0


def archive(
    *,
    older_than_days: Days | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    common: Common = COMMON,
) -> int:
    """Move old originals to the archive.

    Every copy is proved by its checksum before anything is deleted; exit code 1 if one is not sound: it is named and
    left where it is. Stop it whenever you like and run it again.

    Parameters
    ----------
    older_than_days
        Move originals ingested before this many days ago; by default as set.
    dry_run
        Say what would be done and change nothing.
    """
    settings = find_home(load_settings(common.home))
    if older_than_days is not None:
        chosen = settings.archive.model_copy(update={"after_days": older_than_days})
        settings = settings.model_copy(update={"archive": chosen})
    with show_progress("archive", None) as advance:
        done = archive_home(settings, dry_run=dry_run, on_progress=lambda step, _done, _total: advance(step))
    line = done.to_json()
    if common.json:
        print_json(line)
    else:
        told = {key: value for key, value in line.items() if key != "step" and value not in ([], "")}
        print_answer("originals", ", ".join(f"{key} {show(value)}" for key, value in told.items()))
    return EXIT_DIFFERENCE if done.problems else 0


def doctor(*, common: Common = COMMON) -> int:
    """Look at the machine and every store, and say what to do about what is wrong; exit code 1 if anything is."""
    settings = load_settings(common.home)
    findings = examine(settings.home, list_probes(settings))
    lines = [finding.to_json() for finding in findings]
    print_lines(lines, as_json=common.json, columns=("check", "ok", "detail", "advice"))
    return 0 if all(finding.ok for finding in findings) else EXIT_DIFFERENCE
