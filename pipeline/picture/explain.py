"""A verdict as a picture: the frame, its nearest reference, and what is left when one is taken from the other."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.picture.compare import Comparison, Grid, Plate, choose_grid, compare_plates, resample
from pipeline.picture.lettering import DARK, GREY, PAPER, SIGMA, TIMES, draw_badge, fit_text, plain_style, wrap_text
from pipeline.picture.panel import AMBER, Mark, choose_stretch, draw_marks, entitle, show_image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches; a hundred dots each.
_WIDTH, _LEFT, _GAP, _RIGHT, _HEAD, _FOOT = 15.0, 0.6, 0.28, 0.85, 1.5, 0.75
_TALLEST, _FLATTEST = 2.0, 0.2
_PANEL = (_WIDTH - _LEFT - 2 * _GAP - _RIGHT) / 3
_REACH = 8.0
_GREYS: dict[str, Any] = {"cmap": "gray", "vmin": 0.0, "vmax": 1.0}
# Red and blue stay apart in every common kind of colour blindness.
_DIFFERENCES: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -_REACH, "vmax": _REACH}


@dataclass(frozen=True, slots=True)
class ExplanationPanels:
    """What is drawn.

    Attributes:
        name: of the frame.
        status: one of the five verdicts.
        reason: why, in words.
        p_value: in (0, 1], or None where nothing was searched.
        sigma: the same as standard deviations, or None.
        frame: None where the bytes could not be read.
        reference: None where there is no neighbour: then one panel is drawn, and `without` beside it.
        marks: strongest first.
        without: why there is no image or no reference to show.
        significance: what a model left of the frame, in sigma, on its pixels; None shows the difference of the pair.
    """

    name: str
    status: str
    reason: str
    p_value: float | None
    sigma: float | None
    frame: Plate | None
    reference: Plate | None = None
    marks: tuple[Mark, ...] = ()
    without: str = ""
    significance: Plate | None = None


def draw_explanation(panels: ExplanationPanels, path: Path | None = None) -> bytes:
    """Draw frame, nearest reference and difference side by side.

    Frame and reference share one stretch (zscale), after the reference was brought to the frame's grid and scaled to
    it by a robust line (`compare.fit_line`). The difference is in units of its own robust sigma, red where the frame
    is brighter. Frames over 800 pixels a side are drawn as block means; axes count the frame's own pixels, row 0 at
    the bottom.

    Args:
        panels: what is drawn; its texts may hold anything.
        path: where to write the picture as well, or None.

    Returns:
        A PNG, 1500 pixels wide.
    """
    # Drawing is asked for seldom and its library loads slowly.
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with plain_style():
        figure = Figure(figsize=(_WIDTH, _HEAD + _choose_height(panels.frame) + _FOOT), dpi=100, facecolor=PAPER)
        FigureCanvasAgg(figure)
        _draw_head(figure, panels)
        if panels.frame is None or panels.reference is None:
            _draw_one(figure, panels)
        else:
            _draw_three(figure, panels, panels.frame, panels.reference)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": "oddframe"})
    picture = buffer.getvalue()
    if path is not None:
        path.write_bytes(picture)
    return picture


def _draw_three(figure: Figure, panels: ExplanationPanels, frame: Plate, reference: Plate) -> None:
    both = compare_plates(frame, reference)
    stretch = choose_stretch(both.frame)
    views = (
        (stretch.shade(both.frame), "Frame", frame.title, frame.subtitle, _GREYS),
        (stretch.shade(both.reference), "Nearest reference", reference.title, reference.subtitle, _GREYS),
        _view_difference(panels.significance, both),
    )
    drawn = None
    for number, (image, title, name, subtitle, colours) in enumerate(views):
        axes = _add_panel(figure, number)
        drawn = show_image(axes, image, _shape(frame), colours)
        entitle(axes, title, name, subtitle)
        draw_marks(axes, panels.marks, _shape(frame), lettering=(AMBER, None, DARK)[number])
        if number:
            axes.tick_params(labelleft=False)
    _add_bar(figure, axes, drawn)
    _draw_foot(figure, _caption(panels, frame, reference))


def _view_difference(significance: Plate | None, both: Comparison) -> tuple[Any, str, str, str, dict[str, Any]]:
    if significance is None:
        return both.difference, "Difference", "frame less reference, scaled", _describe_fit(both), _DIFFERENCES
    image = resample(significance, (both.frame.shape[0], both.frame.shape[1]))
    return image, "Residual", "frame less its field's model", "significance of a point source there", _DIFFERENCES


def _draw_one(figure: Figure, panels: ExplanationPanels) -> None:
    axes = _add_panel(figure, 0)
    beside = axes.get_position()
    text = wrap_text(panels.without or "no reference to compare with", 2 * _PANEL, 13, 8)
    place = (beside.x1 + 0.5 / _WIDTH, beside.y1)
    if panels.frame is None:
        axes.set_axis_off()
        place = (beside.x0, beside.y1)
    else:
        grid, _ = choose_grid(_shape(panels.frame))
        image = resample(panels.frame, grid)
        show_image(axes, choose_stretch(image).shade(image), _shape(panels.frame), _GREYS)
        entitle(axes, "Frame", panels.frame.title, panels.frame.subtitle)
        draw_marks(axes, panels.marks, _shape(panels.frame), lettering=AMBER)
        _draw_foot(figure, _caption(panels, panels.frame, None))
    figure.text(*place, text, va="top", fontsize=13, color=DARK, parse_math=False)


def _draw_head(figure: Figure, panels: ExplanationPanels) -> None:
    height = float(figure.get_size_inches()[1])
    left, top = _LEFT / _WIDTH, 1 - 0.36 / height
    start = draw_badge(figure, left + 0.006, top, panels.status)
    large: dict[str, Any] = {"fontsize": 15, "va": "center", "color": DARK, "parse_math": False}
    numbers = [f"p = {panels.p_value:.2g}"] if panels.p_value is not None else []
    numbers += [f"{panels.sigma:.1f}{SIGMA}"] if panels.sigma is not None else []
    said = figure.text(1 - _RIGHT / _WIDTH, top, "     ".join(numbers), ha="right", **large)
    room = said.get_window_extent().x0 / figure.dpi - start * _WIDTH - 0.3
    figure.text(start, top, fit_text(panels.name, room, 15, bold=True), fontweight="bold", **large)
    reason = wrap_text(panels.reason, _WIDTH - _LEFT - _RIGHT, 11, 2)
    figure.text(left, 1 - 0.66 / height, reason, fontsize=11, va="top", color=GREY, parse_math=False)


def _draw_foot(figure: Figure, text: str) -> None:
    height = float(figure.get_size_inches()[1])
    lines = wrap_text(text, _WIDTH - _LEFT - _RIGHT, 9, 2)
    figure.text(_LEFT / _WIDTH, (_FOOT - 0.32) / height, lines, fontsize=9, va="top", color=GREY, parse_math=False)


def _add_panel(figure: Figure, number: int) -> Axes:
    height = float(figure.get_size_inches()[1])
    left = _LEFT + number * (_PANEL + _GAP)
    place = (left / _WIDTH, _FOOT / height, _PANEL / _WIDTH, (height - _HEAD - _FOOT) / height)
    return figure.add_axes(place)


def _add_bar(figure: Figure, axes: Axes, drawn: Any) -> None:
    box = axes.get_position()
    beside = figure.add_axes((box.x1 + 0.1 / _WIDTH, box.y0, 0.12 / _WIDTH, box.height))
    bar = figure.colorbar(drawn, cax=beside, extend="both", ticks=range(-int(_REACH), int(_REACH) + 1, 4))
    bar.outline.set(edgecolor="#9aa4ae", linewidth=0.8)
    beside.set_yticklabels([f"{tick:+d}{SIGMA}" if tick else "0" for tick in range(-int(_REACH), int(_REACH) + 1, 4)])
    beside.tick_params(color=GREY, labelcolor=GREY, labelsize=9)


def _choose_height(frame: Plate | None) -> float:
    if frame is None:
        return 1.0
    height, width = _shape(frame)
    return _PANEL * min(max(height / width, _FLATTEST), _TALLEST)


def _describe_fit(both: Comparison) -> str:
    sign = "-" if both.level < 0 else "+"
    return f"reference {TIMES} {both.scale:.3g} {sign} {abs(both.level):.3g};  1{SIGMA} = {both.noise:.3g}"


def _caption(panels: ExplanationPanels, frame: Plate, reference: Plate | None) -> str:
    """What was done to the images before they were drawn."""
    said = ["pixel axes, row 0 at the bottom", "zscale stretch, compressed above the sky"]
    _, block = choose_grid(_shape(frame))
    if block > 1:
        said.append(f"means of {block} {TIMES} {block} pixels")
    if reference is not None and _shape(reference) != _shape(frame):
        (rows, columns), (height, width) = _shape(reference), _shape(frame)
        said.append(
            f"the reference, {columns} {TIMES} {rows} pixels, was resampled to the frame's {width} {TIMES} {height}"
        )
    if not frame.valid.all() or (reference is not None and not reference.valid.all()):
        said.append("hatched: no valid pixel")
    if panels.marks:
        scatter = "this pair's own scatter" if panels.significance is None else "the noise that the model expects"
        said.append(f"marked: what stands out most, in sigma of {scatter}")
    return ";  ".join(said)


def _shape(plate: Plate) -> Grid:
    return (int(plate.pixels.shape[0]), int(plate.pixels.shape[1]))
