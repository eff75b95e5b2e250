"""`maintain`: tidy tables and vectors; pin what must be kept."""

from __future__ import annotations

import re
from typing import Annotated, Any

from cyclopts import Parameter

from pipeline.cli.app import COMMON, Common
from pipeline.cli.output import print_answer, print_json, remark, show, show_progress
from pipeline.errors import UsageError
from pipeline.settings import Settings, load_settings
from pipeline.wiring import find_home, maintain_home, open_maintenance

# Presto takes a name between quotes, other engines a bare word; `main` is the branch of every table.
_PIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,62}")


def maintain(
    *,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    pin: str | None = None,
    as_: Annotated[str | None, Parameter(name="--as")] = None,
    unpin: str | None = None,
    common: Common = COMMON,
) -> int:
    """Merge small table files, forget old snapshots, remove orphaned files, compact the vectors.

    Snapshots that a verdict, a tag or a branch names are kept. On shared stores it runs beside everything else. Stop it
    whenever you like and run it again.

    Parameters
    ----------
    dry_run
        Say what would be done and change nothing.
    pin
        Keep a snapshot of a table, written TABLE:SNAPSHOT, whatever its age; nothing else is done.
    as_
        The name to keep it under.
    unpin
        Let the snapshots kept under a name go; nothing else is done.
    """
    if (pin is None) != (as_ is None) or (unpin is not None and (pin is not None or dry_run)) or (pin and dry_run):
        raise UsageError("pin with --pin TABLE:SNAPSHOT --as NAME, or let go with --unpin NAME, each alone")
    settings = find_home(load_settings(common.home))
    if pin is not None and as_ is not None:
        return _pin(settings, pin, as_, common)
    if unpin is not None:
        return _unpin(settings, unpin, common)
    left = 0
    with show_progress("maintain", None) as advance:
        for step in maintain_home(settings, dry_run=dry_run, on_progress=lambda step, _done, _total: advance(step)):
            line = step.to_json()
            left += line.get("left", 0) + (line.get("state") == "unfinished")
            _print_line(line, common)
    if left and not common.json:
        remark("what was left, or is unfinished, was in use: the next run goes on with it")
    return 0


def _pin(settings: Settings, place: str, name: str, common: Common) -> int:
    table, _, snapshot = place.partition(":")
    # Digits of other scripts are no snapshot's, and no snapshot has more.
    if not re.fullmatch(r"[0-9]{1,19}", snapshot):
        raise UsageError(f"--pin {place!r}: write it as TABLE:SNAPSHOT; `oddframe sql --snapshots` lists them")
    if not _PIN_NAME.fullmatch(name) or name == "main":
        raise UsageError(f"--as {name!r}: letters, digits, '_', '.' and '-', a letter first, 63 at most, not 'main'")
    with open_maintenance(settings) as tables:
        _print_line({"step": "pin", **tables.pin(table, int(snapshot), name).to_json()}, common)
    return 0


def _unpin(settings: Settings, name: str, common: Common) -> int:
    with open_maintenance(settings) as tables:
        for pin in tables.unpin(name):
            _print_line({"step": "unpin", **pin.to_json()}, common)
    return 0


def _print_line(line: dict[str, Any], common: Common) -> None:
    if common.json:
        print_json(line)
        return
    told = {key: value for key, value in line.items() if key != "step" and value not in ([], "", None)}
    print_answer(str(line["step"]), ", ".join(f"{key.replace('_', ' ')} {show(value)}" for key, value in told.items()))
