"""Recall curves of a night as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.judge.recall import find_snr
from pipeline.picture.curves import RecallCurve, draw_recall
from pipeline.run.sensitivity import Curve


def draw_curves(curves: Sequence[Curve]) -> bytes:
    """One panel a kind, one line a field; a PNG."""
    nights = sorted({str(curve.night) for curve in curves})
    return draw_recall(
        f"Found of what was injected, night {', '.join(nights)}",
        [
            RecallCurve(
                kind=curve.kind,
                label=", ".join(
                    str(curve.field[key]) for key in ("instrument", "filter") if curve.field[key] is not None
                )
                + f" {curve.model[:6]}",
                snr=tuple(rung.snr for rung in curve.rungs),
                recall=tuple(rung.recall for rung in curve.rungs),
                intervals=tuple(rung.measure_interval() for rung in curve.rungs),
                half=find_snr(curve.rungs, 0.5),
            )
            for curve in curves
        ],
    )
