"""`sensitivity`: what a night would have missed."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from pipeline.cli.app import COMMON, Common
from pipeline.cli.output import print_lines, remark, show_progress
from pipeline.errors import UsageError
from pipeline.run.sensitivity import Curve, Ladder, measure_sensitivity
from pipeline.settings import load_settings
from pipeline.wiring import find_home, open_lake

_COLUMNS = ("night", "instrument", "filter", "kind", "snr", "flux", "trials", "found", "located", "snr_50", "snr_90")


def sensitivity(
    *,
    night: str | None = None,
    snr: list[float] | None = None,
    kind: list[str] | None = None,
    trials: int = 10,
    picture: Path | None = None,
    common: Common = COMMON,
) -> int:
    """Inject known light into copies of a night's normal frames, look for it with the same code, and keep the recall.

    Parameters
    ----------
    night
        YYYY-MM-DD; by default the newest night with frames that a model found normal.
    snr
        Brightness of a rung, matched-filter standard deviations; may be given several times.
    kind
        point or streak; may be given several times; by default both.
    trials
        How many of each kind on each rung, in each field.
    picture
        Draw the curves into this PNG.
    """
    given: dict[str, Any] = {"snrs": tuple(sorted(snr))} if snr else {}
    given |= {"kinds": tuple(kind)} if kind else {}
    ladder = Ladder(trials=trials, **given)
    with (
        open_lake(find_home(load_settings(common.home))) as lake,
        show_progress("sensitivity", None) as advance,
    ):
        curves = list(measure_sensitivity(lake, _read_night(night), ladder, advance))
        lines = [row for curve in curves for row in curve.to_rows(lake)]
    print_lines(lines, as_json=common.json, columns=_COLUMNS)
    if picture is not None:
        _draw(curves, picture)
    return 0


def _read_night(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text is not None else None
    except ValueError as error:
        raise UsageError(f"{text!r} is no night; write it as YYYY-MM-DD") from error


def _draw(curves: list[Curve], place: Path) -> None:
    from pipeline.run.curves import draw_curves  # noqa: PLC0415 - drawing loads slowly

    try:
        place.write_bytes(draw_curves(curves))
    except OSError as error:
        raise UsageError(f"cannot write the picture {place}: {error.strerror}") from error
    remark(f"The curves: {place}")
