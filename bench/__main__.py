"""`python -m bench [SUITE ...]`: measure, print, and keep the figures in bench/results."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

SUITES = ("throughput", "memory", "growth", "kafka", "latency", "soak", "readers", "maintain")


def main() -> None:
    """Run the suites named, or all."""
    wanted = sys.argv[1:] or list(SUITES)
    for name in wanted:
        if name not in SUITES:
            sys.exit(f"there is no suite {name!r}; choose of {', '.join(SUITES)}")
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        result = importlib.import_module(f"bench.{name}").measure()
        text = json.dumps(result, indent=2)
        print(text)
        place = Path(__file__).parent / "results" / f"{name}.json"
        place.parent.mkdir(exist_ok=True)
        place.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
