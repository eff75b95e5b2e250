"""`evaluate`: how well specs tell what is odd, on folders with a truth file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from pipeline.cli.app import COMMON, Common
from pipeline.cli.output import print_json, print_table, remark, show, show_progress
from pipeline.cli.ranges import FromOne
from pipeline.clock import now_utc
from pipeline.errors import UsageError
from pipeline.evaluate.report import Measure
from pipeline.settings import load_settings

Share = Annotated[float, Parameter(validator=Number(gt=0, lt=1))]


def evaluate(
    protocol: str,
    *folders: Path,
    spec: list[str] | None = None,
    references: Annotated[FromOne, Parameter(help="Series: so many of the first frames are learnt from.")] = 40,
    budget: Share = 0.01,
    store: Annotated[bool, Parameter(negative="")] = False,
    common: Common = COMMON,
) -> int:
    """Measure how well specs tell what is odd, on folders with a truth file; intervals are 95 percent over objects.

    Parameters
    ----------
    protocol
        paired, kinds, unpaired, series, masks, clouds or simulated.
    folders
        Each with a `truth.csv` beside or above its frames.
    spec
        residual, tiles, pixels or peak; may be given more than once. By default all that the protocol is asked of.
    budget
        Series and simulated: share of normal frames that may be flagged.
    store
        Add what was measured to the table `evaluations`.
    """
    from pipeline.evaluate.series import SeriesPlan  # noqa: PLC0415 - the difference loads slowly
    from pipeline.run.evaluate import evaluate_folder  # noqa: PLC0415

    if not folders:
        raise UsageError("nothing to evaluate; name a folder with a truth.csv")
    plan = SeriesPlan(references=references, budget=budget)
    measures: list[Measure] = []
    for folder in folders:
        with show_progress(f"{protocol} {folder.name}", None) as advance:
            found = evaluate_folder(protocol, folder, spec or (), plan, advance)
        measures += found
        if common.json:
            for measure in found:
                print_json(measure.to_json())
    if store:
        from pipeline.run.evaluate import list_rows  # noqa: PLC0415
        from pipeline.wiring import append_evaluations  # noqa: PLC0415

        append_evaluations(load_settings(common.home), list_rows(measures, at=now_utc()))
    if not common.json:
        _print_side_by_side(measures)
    return 0


def _print_side_by_side(measures: Sequence[Measure]) -> None:
    """One row a number, one column a spec; what is to be known of them below."""
    specs = list(dict.fromkeys(m.spec for m in measures))
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for m in measures:
        row = rows.setdefault((m.folder, m.kind, m.metric), {"folder": m.folder, "kind": m.kind, "metric": m.metric})
        row[m.spec] = _show(m)
        row["objects"] = str(max(int(row.get("objects", "0")), m.objects))
    protocol = measures[0].protocol if measures else ""
    print_table(list(rows.values()), ("folder", "kind", "metric", *specs, "objects"), protocol)
    for note in dict.fromkeys(f"{m.folder}, {m.spec}: {m.note}" for m in measures if len(m.note) > 0):
        remark(note)


def _show(measure: Measure) -> str:
    if measure.value is None:
        return "-"
    value = f"{measure.value:.4g}" if measure.metric == "flagged" else f"{measure.value:.3f}"
    ends = (measure.low, measure.high)
    return value if ends == (None, None) else f"{value} ({', '.join(show(e) or '-' for e in ends)})"
