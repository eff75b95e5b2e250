"""`python -m tests.faults [NAME=ROUNDS ...]`: bring every fault about, print what became of it, keep the table."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.machine import describe_machine
from tests.faults.scenarios import SCENARIOS, Tally
from tests.faults.stage import open_stage
from tests.faults.world import Damage

_ROUNDS = {
    "steps": 10, "random": 16, "services": 10, "workers": 6, "deliveries": 3, "connections": 4, "disk": 2,
}  # fmt: skip
_RESULT = Path(__file__).parents[2] / "bench" / "results" / "faults.json"


def main() -> int:
    """Exit code 1 where anything was lost, doubled or found wrong."""
    asked = dict(argument.split("=") for argument in sys.argv[1:])
    rounds = {name: int(asked.get(name, 0 if asked else count)) for name, count in _ROUNDS.items()}
    tallies: list[Tally] = []
    with open_stage() as stage:
        for name, scenario in SCENARIOS.items():
            if rounds[name]:
                sys.stderr.write(f"{name}: {rounds[name]} rounds ...\n")
                found = list(scenario(stage, rounds[name]))
                tallies += found
                _print(found)
                # Kept after each: half an hour of faults is not to be lost with the last of them.
                _keep(name, [_to_line(tally) for tally in found])
    _print(tallies)
    return int(any(tally.damage != Damage(0, 0, 0) for tally in tallies))


def _keep(name: str, lines: list[dict[str, object]]) -> None:
    """Replace what is known of one scenario by the newest."""
    known = json.loads(_RESULT.read_text(encoding="utf-8")) if _RESULT.is_file() else {"scenarios": {}}
    known["machine"] = describe_machine()
    known["scenarios"][name] = lines
    _RESULT.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


def _to_line(tally: Tally) -> dict[str, object]:
    seconds = sorted(tally.seconds) or [0.0]
    return {
        "fault": tally.fault,
        "tried": tally.tried,
        "kills": tally.kills,
        "lost": tally.damage.lost,
        "doubled": tally.damage.doubled,
        "wrong": tally.damage.wrong,
        "seconds_median": round(statistics.median(seconds), 1),
        "seconds_worst": round(seconds[-1], 1),
    }


def _print(tallies: list[Tally]) -> None:
    lines = [_to_line(tally) for tally in tallies]
    table = Table(title=f"{sum(tally.kills for tally in tallies)} kills", title_justify="left")
    for column in lines[0] if lines else ():
        table.add_column(column.replace("_", " "), justify="left" if column == "fault" else "right")
    for line in lines:
        table.add_row(*map(str, line.values()))
    Console(width=150).print(table)


if __name__ == "__main__":
    sys.exit(main())
