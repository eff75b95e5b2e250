"""`simulate` a night and `produce` it into a spool, as a telescope would."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.app import COMMON, Common
from pipeline.cli.output import print_json, remark, show_progress
from pipeline.cli.ranges import FromOne, FromZero, Seconds, Side
from pipeline.errors import UsageError
from pipeline.run.land import expand_paths


def simulate(
    directory: Path,
    *,
    seed: FromZero = 1,
    preset: str = "demo",
    fields: FromOne = 2,
    references: Annotated[FromZero, Parameter(help="Reference frames of each field.")] = 20,
    frames: FromZero = 40,
    size: Side = 512,
    common: Common = COMMON,
) -> int:
    """Write a seeded star-field night with injected anomalies and a truth file.

    Parameters
    ----------
    directory
        Gets `references/`, `night/` and `truth.csv`.
    seed
        The same seed gives the same bytes.
    preset
        demo, quiet, evidence or hard.
    fields
        Fields on the sky.
    frames
        Frames of the night of each field.
    size
        Side of a frame, pixels.
    """
    from pipeline.simulate import plan_night, write_night  # noqa: PLC0415 - the simulator loads slowly

    plans = plan_night(seed, preset=preset, fields=fields, references=references, frames=frames, shape=(size, size))
    with show_progress("simulate", len(plans)) as advance:
        rows = write_night(plans, directory, lambda done, total: advance(f"{done} of {total}"))
    if common.json:
        for row in rows:
            print_json(asdict(row))
    else:
        odd = sum(bool(row.label) for row in rows)
        remark(f"{len(rows)} frames in {directory}, {odd} of them odd (truth.csv says which)")
    return 0


def produce(*paths: str, spool: Path, cadence: Seconds = 1.0, burst: FromOne = 1, common: Common = COMMON) -> int:
    """Feed frames into a spool directory at a cadence, whole files only: the telescope emulator.

    Parameters
    ----------
    paths
        Files, directories or patterns, delivered in this order.
    spool
        Directory to feed; created if it is not there.
    cadence
        Seconds between deliveries.
    burst
        Frames of each delivery.
    """
    import time  # noqa: PLC0415

    from pipeline.simulate import feed  # noqa: PLC0415 - the simulator loads slowly

    if not paths:
        raise UsageError("nothing to deliver; name files, a directory or a pattern")
    files = expand_paths(paths)
    with show_progress("produce", len(files)) as advance:

        def tell(path: Path, copied: bool) -> None:
            advance(path.name)
            if common.json:
                print_json({"name": path.name, "delivered": copied})

        delivered = feed(files, spool, cadence, time.sleep, tell, burst=burst)
    if not common.json:
        remark(f"{delivered} of {len(files)} frames delivered to {spool}")
    return 0
