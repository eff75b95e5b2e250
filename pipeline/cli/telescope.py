"""`simulate` a night and `produce` it into a spool or a topic, as a telescope would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pipeline.cli.app import COMMON, Common
from pipeline.cli.output import print_json, remark, show_progress
from pipeline.cli.ranges import FromOne, FromZero, Seconds, Side
from pipeline.errors import UsageError
from pipeline.parts import choose
from pipeline.run.land import expand_paths
from pipeline.settings import Settings, load_settings


def simulate(
    directory: Path,
    *,
    seed: FromZero = 1,
    preset: str = "demo",
    fields: FromOne = 2,
    references: Annotated[FromZero, Parameter(help="Reference frames of each field.")] = 20,
    frames: FromZero = 40,
    reference_nights: FromZero | None = None,
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
    reference_nights
        Nights the references are dealt out over; 0 for a night each, as in hard; the other presets have 1.
    size
        Side of a frame, pixels.
    """
    from pipeline.simulate import plan_night, write_night  # noqa: PLC0415 - the simulator loads slowly

    plans = plan_night(
        seed,
        preset=preset,
        fields=fields,
        references=references,
        frames=frames,
        reference_nights=reference_nights,
        shape=(size, size),
    )
    with show_progress("simulate", len(plans)) as advance:
        rows = write_night(plans, directory, lambda done, total: advance(f"{done} of {total}"))
    if common.json:
        for row in rows:
            print_json(asdict(row))
    else:
        odd = sum(bool(row.label) for row in rows)
        remark(f"{len(rows)} frames in {directory}, {odd} of them odd (truth.csv says which)")
    return 0


def produce(
    *paths: str,
    spool: Path | None = None,
    topic: str | None = None,
    cadence: Seconds = 1.0,
    burst: FromOne = 1,
    common: Common = COMMON,
) -> int:
    """Feed frames into a spool directory or a Kafka topic at a cadence, whole files only: the telescope emulator.

    Parameters
    ----------
    paths
        Files, directories or patterns, delivered in this order.
    spool
        Directory to feed; created if it is not there.
    topic
        Topic to feed; created if it is not there. Files over `kafka.claim_above` go as claim checks.
    cadence
        Seconds between deliveries.
    burst
        Frames of each delivery.
    """
    settings = load_settings(common.home)
    if spool is None and topic is None and choose(settings).frames == "kafka":
        topic = settings.kafka.topic
    if (spool is None) == (topic is None):
        raise UsageError("name a spool directory with --spool, or a topic with --topic")
    if not paths:
        raise UsageError("nothing to deliver; name files, a directory or a pattern")
    files = expand_paths(paths)
    with show_progress("produce", len(files)) as advance:

        def tell(path: Path, delivered: bool = True) -> None:
            advance(path.name)
            if common.json:
                print_json({"name": path.name, "delivered": delivered})

        if spool is not None:
            sent = _feed_spool(files, spool, cadence, burst, tell)
        else:
            sent = _feed_topic(settings, files, str(topic), (cadence, burst), tell)
    if not common.json:
        remark(f"{sent} of {len(files)} frames delivered to {spool or f'topic {topic}'}")
    return 0


def _feed_spool(files: list[Path], spool: Path, cadence: float, burst: int, tell: Callable[[Path, bool], None]) -> int:
    import time  # noqa: PLC0415

    from pipeline.simulate import feed  # noqa: PLC0415 - the simulator loads slowly

    return feed(files, spool, cadence, time.sleep, tell, burst=burst)


def _feed_topic(
    settings: Settings, files: list[Path], topic: str, pace: tuple[float, int], tell: Callable[[Path], None]
) -> int:
    from pipeline.source.producer import feed_topic  # noqa: PLC0415 - the client loads slowly
    from pipeline.streams import open_producer  # noqa: PLC0415

    cadence, burst = pace
    with open_producer(settings, topic) as producer:
        return feed_topic(files, producer, cadence, on_file=tell, burst=burst)
