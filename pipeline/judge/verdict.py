"""Neighbours and calibration -> a judgement of one frame."""

from __future__ import annotations

from pipeline.judge.calibration import Calibration, to_sigma
from pipeline.judge.types import Judgement, Neighbour, Status

LEAST_TO_COMPARE = 2
"""A single reference may be the odd one: with fewer than this in a frame's own cell nothing is said of it."""


def judge_frame(
    neighbours: tuple[Neighbour, ...],
    nearest: float | None,
    calibration: Calibration | None,
    *,
    cell: str,
    references: int,
    least: int,
    budget: float,
    itself: bool = False,
    anywhere: int | None = None,
    remark: str = "",
) -> Judgement:
    """Say what the nearest references mean.

    Args:
        neighbours: nearest first, exact distances; the frame itself among them where it is a reference.
        nearest: distance to the nearest reference that is another frame, None where there is none.
        calibration: of the frame's prefilter cell, or of a wider one; None where there are too few references.
        cell: the cell in words.
        references: how many references the cell holds.
        least: how many it takes to judge.
        budget: share of normal frames that may be flagged.
        itself: whether the frame is a reference of the cell, and so was left out of all but `neighbours`.
        anywhere: how many references of other zones calibrate in place of those of its cell; None where those of its
            cell do.
        remark: what else is to be said of how it was compared.
    """
    remark = ("; it is a reference itself, judged by the others" if itself else "") + (f"; {remark}" if remark else "")
    if calibration is None or nearest is None or references < (LEAST_TO_COMPARE if anywhere else least):
        return Judgement(
            status=Status.NO_REFERENCE,
            reason=f"{references} of the {least} references needed are in its cell ({cell}){remark}",
            neighbours=neighbours,
            distance=nearest,
            references_in_cell=references,
        )
    p_value = calibration.rate(nearest)
    threshold = calibration.find_threshold(budget)
    odd = p_value.value <= budget
    word = "beyond" if odd else "within"
    if anywhere:
        remark = (
            f"; calibrated by the {anywhere} references of that instrument and filter elsewhere on the sky, "
            f"for its own cell has {references}{remark}"
        )
    tail = ", from the fitted tail" if p_value.extrapolated else ""
    return Judgement(
        status=Status.ANOMALY if odd else Status.NORMAL,
        reason=(
            f"distance {nearest:.4g} to its nearest of {references} references is {word} the {threshold:.4g} "
            f"that the false-alarm budget of {budget:.2%} allows (p = {p_value.value:.2g}{tail}){remark}"
        ),
        neighbours=neighbours,
        distance=nearest,
        p_value=p_value,
        sigma=to_sigma(p_value.value),
        threshold=threshold,
        references_in_cell=references,
    )
