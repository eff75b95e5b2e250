"""`python -m bench [SUITE ...]`: measure, print, and keep the figures in bench/results."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

SUITES = ("throughput", "memory", "growth", "kafka", "latency", "soak", "readers", "maintain", "difference")


def main() -> None:
    """Run the suites named, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure on a machine that does nothing else.")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; all if none is named")
    wanted = parser.parse_args().suites
    if unknown := [name for name in wanted if name not in SUITES]:
        parser.error(f"there is no suite {unknown[0]!r}; choose of {', '.join(SUITES)}")
    for name in wanted or SUITES:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        result = importlib.import_module(f"bench.{name}").measure()
        text = json.dumps(result, indent=2)
        print(text)
        place = Path(__file__).parent / "results" / f"{name}.json"
        place.parent.mkdir(exist_ok=True)
        place.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
