"""`demo`: a night from nothing to flagged frames, with every step a user would take."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

from pipeline.cli.app import COMMON, EXIT_DIFFERENCE, Common
from pipeline.cli.output import print_json, print_table, remark, show_progress
from pipeline.cli.ranges import FromOne, FromZero, Side
from pipeline.cli.reference import tell_lessons
from pipeline.errors import UsageError
from pipeline.parts import find_layout, open_models, open_originals, open_sql, open_tables
from pipeline.run.batch import IngestRequest, Purpose
from pipeline.run.explain import find_verdict
from pipeline.run.ingest import Ingestor
from pipeline.run.land import expand_paths
from pipeline.run.report import Report
from pipeline.run.stored import load_detections
from pipeline.run.verify import count_wrong, verify_lake
from pipeline.settings import Settings, load_settings
from pipeline.wiring import open_lake

_QUERY = "flagged_per_night"
_NAMESPACE = "demo_"


def demo(
    directory: Path = Path("demo-output"),
    *,
    profile: Literal["embedded", "full"] = "embedded",
    seed: FromZero = 7,
    frames: FromOne = 30,
    size: Side = 512,
    common: Common = COMMON,
) -> int:
    """One simulated night: references, a night of frames, verdicts, a proof, a question in SQL, a picture.

    On the full profile the night goes through Kafka, the shared catalogue, the Milvus server and Presto, into a
    namespace of its own; then once more through the embedded stores, and the verdicts are compared bit for bit.

    Parameters
    ----------
    directory
        Gets the night, the state and the picture; an earlier demo there is replaced.
    profile
        Which services to use; for `full` they must be up (`oddframe stack up`).
    seed
        The same seed gives the same night.
    frames
        Frames of the night of each of two fields.
    size
        Side of a frame, pixels.
    """
    directory = directory.absolute()
    _clear(directory)
    settings = _choose_settings(directory, profile, common)
    truth = _simulate(directory / "night", seed, frames, size)
    reports, wrong = _run_night(settings, directory / "night")
    if profile == "full":
        wrong += _compare_with_embedded(directory, reports)
    flagged = [report for report in reports if report["status"] == "anomaly"]
    flagged.sort(key=lambda report: (report["p_value"], report["name"]))
    lines = [{**report, "truth": truth.get(report["name"], "?")} for report in flagged]
    if common.json:
        for line in lines:
            print_json(line)
    else:
        print_table(lines, ("name", "p_value", "sigma", "truth", "reason"), f"{len(lines)} of {len(reports)} flagged")
        _print_score(reports, truth)
    remark("verify: " + ("every check agrees" if not wrong else f"{wrong} checks found differences"))
    _ask(settings, as_json=common.json)
    if flagged:
        _draw(settings, flagged[0]["frame_id"], directory / "flagged.png")
    remark(f"Look further with: oddframe verdicts --home {settings.home}")
    return EXIT_DIFFERENCE if wrong else 0


def _clear(directory: Path) -> None:
    marker = directory / ".oddframe-demo"
    if directory.exists() and any(directory.iterdir()) and not marker.exists():
        raise UsageError(f"{directory} is not empty and no demo made it; name another directory")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    marker.touch()


def _simulate(night: Path, seed: int, frames: int, size: int) -> dict[str, str]:
    from pipeline.simulate import plan_night, write_night  # noqa: PLC0415 - the simulator loads slowly

    plans = plan_night(seed, preset="demo", fields=2, references=20, frames=frames, shape=(size, size))
    with show_progress("simulate", len(plans)) as advance:
        write_night(plans, night, lambda done, total: advance(f"{done} of {total}"))
    with (night / "truth.csv").open(encoding="utf-8", newline="") as file:
        return {Path(row["file"]).name: row["kind"] for row in csv.DictReader(file)}


def _choose_settings(directory: Path, profile: str, common: Common) -> Settings:
    home = common.home or directory / "home"
    if profile == "embedded":
        return _fix_profile(load_settings(home), "embedded")
    # A stack that was brought up with this home is in it.
    beside = common.home is not None and (common.home / "stack").is_dir()
    layout, name = find_layout(load_settings(common.home if beside else None)), f"{_NAMESPACE}{token_hex(4)}"
    place = home / "oddframe.toml"
    if place.exists() and f'namespace = "{_NAMESPACE}' not in place.read_text(encoding="utf-8"):
        raise UsageError(f"{place} holds settings that no demo wrote; name another --home")
    home.mkdir(parents=True, exist_ok=True)
    # Kept with the home: whoever looks further there finds the same services.
    lines = (
        'profile = "full"',
        f'[stores]\nnamespace = "{name}"',
        f'[kafka]\ntopic = "{name}"',
        f"[stack]\nfirst_port = {layout.first_port}\ndata = {json.dumps(str(layout.data.absolute()))}",
    )
    place.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    return _fix_profile(load_settings(home), "full")


def _fix_profile(settings: Settings, profile: str) -> Settings:
    # The option counts, whatever the environment says.
    return settings.model_copy(update={"profile": profile})


def _run_night(settings: Settings, night: Path) -> tuple[list[Report], int]:
    references, science = expand_paths([str(night / "references")]), expand_paths([str(night / "night")])
    with open_lake(settings) as lake:
        request = IngestRequest(Purpose.REFERENCE, by="demo", why="the simulated reference night")
        with Ingestor(lake, request) as ingestor, show_progress("reference add", len(references)) as advance:
            for report in ingestor.ingest(references):
                advance(report["name"])
        tell_lessons(lake)
    reports = _read_topic(settings, science) if settings.profile == "full" else _read_files(settings, science)
    with open_lake(settings) as lake:
        return reports, count_wrong(verify_lake(lake))


def _read_files(settings: Settings, science: Sequence[Path]) -> list[Report]:
    reports: list[Report] = []
    with (
        open_lake(settings) as lake,
        Ingestor(lake, IngestRequest()) as ingestor,
        show_progress("ingest", len(science)) as advance,
    ):
        for report in ingestor.ingest(science):
            advance(report["name"])
            reports.append(report)
    return reports


def _read_topic(settings: Settings, science: Sequence[Path]) -> list[Report]:
    # The client of Kafka loads slowly.
    from pipeline.source.producer import feed_topic  # noqa: PLC0415
    from pipeline.streams import open_consumer, open_producer  # noqa: PLC0415

    topic = settings.kafka.topic
    with open_producer(settings, topic) as producer, show_progress("produce", len(science)) as advance:
        feed_topic(science, producer, on_file=lambda path: advance(path.name))
    reports: list[Report] = []
    request = IngestRequest(record_duplicates=True)
    with (
        open_consumer(settings, topic, request, once=True) as consumer,
        show_progress(f"topic {topic}", len(science)) as advance,
    ):
        for report in consumer.consume(lambda: False):
            advance(report["name"])
            reports.append(report)
    return sorted(reports, key=lambda report: report["name"])


def _compare_with_embedded(directory: Path, reports: Sequence[Report]) -> int:
    """How many frames the embedded stores judge otherwise."""
    settings = _fix_profile(load_settings(directory / "embedded"), "embedded")
    again = {report["name"]: report for report in _run_night(settings, directory / "night")[0]}
    other = [report["name"] for report in reports if again.get(report["name"]) != report]
    same = len(reports) - len(other)
    remark(f"the embedded profile gives the same verdict, bit for bit, on {same} of {len(again)} frames")
    return len(other) + abs(len(again) - len(reports))


def _print_score(reports: Sequence[Report], truth: dict[str, str]) -> None:
    odd = {name for name, kind in truth.items() if kind != "normal"} & {r["name"] for r in reports}
    flagged = {r["name"] for r in reports if r["status"] == "anomaly"}
    remark(f"against the truth file: {len(odd & flagged)} of {len(odd)} odd frames found, {len(flagged - odd)} false")


def _ask(settings: Settings, *, as_json: bool) -> None:
    from pipeline.store.sql_rows import row_to_json  # noqa: PLC0415 - the SQL engine loads slowly

    engine, catalog = open_sql(settings)
    text, parameters = catalog.bind(_QUERY, {})
    result = engine.query(text, parameters)
    rows: list[dict[str, Any]] = [row_to_json(result.columns, row) for row in result.rows]
    if as_json:
        for row in rows:
            print_json(row)
    else:
        print_table(rows, [column.name for column in result.columns], f"oddframe sql --query {_QUERY}")


def _draw(settings: Settings, frame_id: str, picture: Path) -> None:
    from pipeline.run.picture import explain_picture  # noqa: PLC0415 - drawing loads slowly

    tables = open_tables(settings)
    verdict = find_verdict(tables, frame_id)
    detections = load_detections(tables, [verdict["verdict_id"]]).get(verdict["verdict_id"], [])
    picture.write_bytes(
        explain_picture(open_originals(settings), tables, verdict, detections, models=open_models(settings))
    )
    remark(f"The oddest frame, its nearest reference and their difference: {picture}")
