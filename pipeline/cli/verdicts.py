"""`verdicts` and `explain`: what was said of frames, and why."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from pipeline.cli.app import COMMON, EXIT_DIFFERENCE, Common
from pipeline.cli.frames import COLUMNS
from pipeline.cli.output import print_answer, print_json, print_lines, remark, show
from pipeline.errors import UsageError
from pipeline.judge.budget import bound_by_alarms, bound_by_fdr
from pipeline.parts import open_models, open_originals, open_tables
from pipeline.run.explain import find_verdict, replay_verdict
from pipeline.run.report import report_of
from pipeline.run.stored import Bound, list_verdicts, load_detections
from pipeline.settings import load_settings
from pipeline.wiring import find_home, open_lake

_SHOWN = 50


def verdicts(
    *,
    status: str | None = None,
    night: str | None = None,
    alarms: float | None = None,
    fdr: float | None = None,
    limit: int | None = None,
    common: Common = COMMON,
) -> int:
    """The newest verdict of each frame, oddest first.

    Parameters
    ----------
    status
        Only normal, anomaly, no_reference, not_searched or unreadable.
    night
        Only this night, as YYYY-MM-DD.
    alarms
        With a night: what is odd where so many false alarms are allowed in all of it, whatever was flagged by itself.
    fdr
        With a night: what is odd where this share of it may be false alarms (Benjamini and Hochberg).
    limit
        At most this many; by default 50, and all that `--alarms` or `--fdr` find.
    """
    bound = _choose_bound(night, alarms, fdr)
    if limit is None and bound is None:
        limit = _SHOWN
    tables = open_tables(find_home(load_settings(common.home)))
    rows = list_verdicts(tables, status=status, night=night, limit=limit, bound=bound)
    print_lines(rows, as_json=common.json, columns=COLUMNS)
    return 0


def _choose_bound(night: str | None, alarms: float | None, fdr: float | None) -> Bound | None:
    if alarms is None and fdr is None:
        return None
    if alarms is not None and fdr is not None:
        raise UsageError("--alarms and --fdr are two ways to say it; give one of them")
    if night is None:
        raise UsageError("--alarms and --fdr are of one night; name it with --night YYYY-MM-DD")
    if alarms is not None:
        if not (math.isfinite(alarms) and alarms > 0):
            raise UsageError(f"{alarms:g} false alarms cannot be allowed; give a number above 0")
        return partial(bound_by_alarms, alarms=alarms)
    if fdr is None or not 0 < fdr < 1:
        raise UsageError(f"a share of {fdr:g} makes no sense; give one between 0 and 1")
    return partial(bound_by_fdr, rate=fdr)


def explain(
    frame: str,
    *,
    replay: Annotated[bool, Parameter(negative="")] = False,
    picture: Path | None = None,
    embedding: str | None = None,
    common: Common = COMMON,
) -> int:
    """Why a frame was judged as it was.

    Parameters
    ----------
    frame
        File name, frame id, or the beginning of an id.
    replay
        Judge it again from the kept bytes and the reference set of then; exit code 1 if the score differs.
    picture
        Write frame, nearest reference and difference to this PNG file.
    embedding
        The verdict under this embedding; by default the newest.
    """
    settings = find_home(load_settings(common.home))
    tables = open_tables(settings)
    verdict = find_verdict(tables, frame, embedding)
    detections = load_detections(tables, [verdict["verdict_id"]]).get(verdict["verdict_id"], [])
    line: dict[str, Any] = {
        **report_of(verdict["name"], verdict, detections),
        "threshold": verdict["threshold"],
        "budget": verdict["budget"],
        "references_in_cell": verdict["references_in_cell"],
        "reference_snapshot_id": verdict["reference_snapshot_id"],
        "code_version": verdict["code_version"],
        "judged_at": verdict["judged_at"],
    }
    code = 0
    if picture is not None:
        from pipeline.run.picture import explain_picture  # noqa: PLC0415 - drawing loads slowly

        drawn = explain_picture(open_originals(settings), tables, verdict, detections, models=open_models(settings))
        try:
            picture.write_bytes(drawn)
        except OSError as error:
            raise UsageError(f"cannot write the picture {picture}: {error.strerror}") from error
        line["picture"] = str(picture)
    if replay:
        with open_lake(settings) as lake:
            answer = replay_verdict(lake, verdict)
        line |= {"replay_same": answer.same, "replay_differences": list(answer.differences)}
        code = 0 if answer.same else EXIT_DIFFERENCE
    if common.json:
        print_json(line)
    else:
        _print_explanation(line)
    return code


def _print_explanation(line: dict[str, Any]) -> None:
    for key, value in line.items():
        if key not in ("detections", "nearest", "replay_differences") and value is not None:
            print_answer(key, show(value))
    for neighbour in line["nearest"]:
        print_answer("nearest", f"{neighbour['name']} at {neighbour['distance']:.5g}")
    for detection in line["detections"]:
        place = f"x {detection['x']:.1f}, y {detection['y']:.1f}"
        sky = f", RA {detection['ra']:.5f}, Dec {detection['dec']:.5f}" if detection["ra"] is not None else ""
        print_answer("detection", f"{place}{sky}, {detection['sigma']:.1f} sigma, {detection['kind']}")
    for difference in line.get("replay_differences", []):
        remark(f"replay differs: {difference}")
