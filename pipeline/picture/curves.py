"""Recall over brightness: what share of injected light was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from pipeline.picture.lettering import DARK, GREY, PAPER, plain_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Apart from each other in every common kind of colour blindness (Okabe and Ito 2008).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MOST_NAMED = 7


@dataclass(frozen=True, slots=True)
class RecallCurve:
    """One line.

    Attributes:
        kind: what was injected.
        label: of the field.
        snr: brightness of each rung.
        recall: share found, 0 to 1.
        intervals: its 95 percent interval.
        half: S/N at which half is found, or None.
    """

    kind: str
    label: str
    snr: tuple[float, ...]
    recall: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    half: float | None


def draw_recall(title: str, curves: Sequence[RecallCurve]) -> bytes:
    """One panel a kind, one line a field.

    Returns:
        A PNG.
    """
    # Drawing is asked for seldom and its library loads slowly.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    kinds = list(dict.fromkeys(curve.kind for curve in curves)) or ["nothing"]
    with plain_style():
        figure = Figure(figsize=(6.2 * len(kinds), 4.6), dpi=100, facecolor=PAPER, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title, color=DARK, fontsize=13, fontweight="bold", parse_math=False)
        panels = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
        for axes, kind in zip(panels, kinds, strict=True):
            _draw_panel(axes, kind, [curve for curve in curves if curve.kind == kind])
        panels[0].set_ylabel("share found", color=DARK)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": "oddframe"})
    return buffer.getvalue()


def _draw_panel(axes: Axes, kind: str, curves: Sequence[RecallCurve]) -> None:
    axes.set_title(kind, color=DARK, fontsize=11, parse_math=False)
    axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.axhline(0.9, color=GREY, linewidth=0.8, linestyle=":")
    for number, curve in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        said = f"{curve.label}: half at {curve.half:.1f}" if curve.half is not None else curve.label
        below = [max(0.0, r - low) for r, (low, _) in zip(curve.recall, curve.intervals, strict=True)]
        above = [max(0.0, high - r) for r, (_, high) in zip(curve.recall, curve.intervals, strict=True)]
        axes.errorbar(
            curve.snr, curve.recall, yerr=(below, above), color=colour, marker="o", markersize=4, capsize=2,
            linewidth=1.4, label=said if number < _MOST_NAMED else None,
        )  # fmt: skip
    axes.set(xlabel="S/N of the injected light (matched filter)", ylim=(-0.03, 1.03), xlim=(0, None))
    axes.tick_params(color=GREY, labelcolor=GREY, labelsize=9)
    if curves:
        axes.legend(loc="lower right", fontsize=8.5, frameon=False)
