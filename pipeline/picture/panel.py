"""One panel: an image with pixel axes, its titles, and circles where something was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.picture.compare import Grid
from pipeline.picture.lettering import DARK, GREY, PAPER, SIGMA, fit_text, measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELLED = 5
_LEAST_CIRCLE = 0.34  # inches across
_HALF_BOX = 0.1  # inches
_DARKER, _LINEAR, _MOST_REACH = 0.15, 0.3, 12.0
AMBER = "#ffb000"
_EDGE = "#101010"
_LONGEST = 1e5
_DOTS = 100.0  # an inch


@dataclass(frozen=True, slots=True)
class Mark:
    """A detection; x and y in 0-based pixels of the frame, size_px how far it reaches along its longest side.

    angle_deg is the direction of that side from +x towards +y; None where it has none.
    """

    x: float
    y: float
    sigma: float | None
    kind: str
    size_px: float | None
    angle_deg: float | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """Levels that turn an image into shades: linear in the sky, compressed above it so that stars keep a shape.

    Attributes:
        low: drawn black.
        high: about where linear ends.
        bright: drawn white.
    """

    low: float
    high: float
    bright: float

    def shade(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shades in [0, 1], NaN where the image is NaN."""
        unit = _LINEAR * (self.high - self.low)
        top = np.arcsinh((self.bright - self.low) / unit)
        shades: NDArray[np.float64] = np.clip(np.arcsinh((image - self.low) / unit) / top, 0.0, 1.0)
        return shades


def choose_stretch(image: NDArray[np.float64]) -> Stretch:
    """Levels of the zscale algorithm, and the brightest thousandth; apart from each other whatever the image."""
    from astropy.visualization import ZScaleInterval  # noqa: PLC0415 - loads slowly

    known = image[np.isfinite(image)]
    if known.size == 0:
        return Stretch(0.0, 1.0, 1.0)
    low, high = (float(level) for level in ZScaleInterval().get_limits(known))
    least = max(1e-6 * abs(low), 1e-30)
    if not high > low + least:
        return Stretch(low, low + max(least, 1.0), low + max(least, 1.0))
    low += _DARKER * (high - low)
    return Stretch(low, high, min(max(high, float(np.percentile(known, 99.8))), high + _MOST_REACH * (high - low)))


def show_image(axes: Axes, image: NDArray[np.float64], shape: Grid, colours: dict[str, Any]) -> Any:
    """Draw an image over a frame's own pixel coordinates, hatched grey where it is NaN.

    Args:
        axes: where.
        image: the frame on the drawing's grid.
        shape: height and width of the frame, pixels.
        colours: colour map and limits, as matplotlib takes them.

    Returns:
        What a colour bar is made for.
    """
    height, width = shape
    axes.patch.set(facecolor="#d4d4d4", hatch="////", edgecolor="#bcbcbc", linewidth=0)
    axes.tick_params(color=GREY, labelcolor=GREY, labelsize=9)
    axes.locator_params(nbins=5, integer=True)
    for spine in axes.spines.values():
        spine.set(edgecolor="#9aa4ae", linewidth=0.8)
    # Blocks smaller than a dot of the picture are averaged again, larger ones keep their edges.
    return axes.imshow(
        np.ma.masked_invalid(image),
        origin="lower",
        extent=(-0.5, width - 0.5, -0.5, height - 0.5),
        aspect="auto",
        interpolation="auto",
        **colours,
    )


def entitle(axes: Axes, title: str, name: str, subtitle: str) -> None:
    """What the panel shows and of which file, above it."""
    width = axes.get_window_extent().width / _DOTS
    letters: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "parse_math": False}
    axes.annotate(title, (0, 1), (0, 19), fontsize=11.5, fontweight="bold", color=DARK, **letters)
    axes.annotate(
        fit_text(name, width - measure(title, 11.5, bold=True) - 0.2, 9.5),
        (1, 1),
        (0, 19),
        ha="right",
        fontsize=9.5,
        color=DARK,
        **letters,
    )
    axes.annotate(fit_text(subtitle, width, 9), (0, 1), (0, 5), fontsize=9, color=GREY, **letters)


def draw_marks(axes: Axes, marks: Sequence[Mark], shape: Grid, *, lettering: str | None) -> None:
    """Circle detections, box those that are long; beside the strongest five stands their sigma, where there is room.

    Args:
        axes: a panel with an image in it.
        marks: strongest first.
        shape: height and width of the frame, pixels.
        lettering: colour of the labels; None draws thin dotted circles without labels.
    """
    height, width = shape
    size = axes.get_window_extent()
    # Pixels of the frame to an inch of paper: a circle stays one where a very long frame is stretched.
    inch = width / (size.width / _DOTS), height / (size.height / _DOTS)
    labelled: list[tuple[float, float]] = []
    for number, mark in enumerate(m for m in marks if np.isfinite(m.x) and np.isfinite(m.y)):
        across = min(max(2**0.5 * (mark.size_px or 0.0) / max(inch), _LEAST_CIRCLE), 3.0)
        if mark.angle_deg is None:
            _draw_circle(axes, mark, (across * inch[0], across * inch[1]), dotted=lettering is None)
        else:
            _draw_box(axes, mark, _HALF_BOX * max(inch), dotted=lettering is None)
            across = _LEAST_CIRCLE
        right = mark.x < 0.7 * width
        place = (mark.x + (0.5 * across + 0.05) * (inch[0] if right else -inch[0]), mark.y)
        crowded = any(abs(place[0] - x) < 0.7 * inch[0] and abs(place[1] - y) < 0.18 * inch[1] for x, y in labelled)
        if lettering and number < _LABELLED and mark.sigma is not None and not crowded:
            labelled.append(place)
            _draw_label(axes, mark.sigma, place, right=right, colour=lettering)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5))


def _draw_circle(axes: Axes, mark: Mark, size: tuple[float, float], *, dotted: bool) -> None:
    from matplotlib.patches import Ellipse  # noqa: PLC0415 - loads slowly

    for colour, width in ((_EDGE, 3.0), (AMBER, 1.6)):
        axes.add_patch(
            Ellipse(
                (mark.x, mark.y),
                *size,
                fill=False,
                edgecolor=colour,
                linewidth=width * (0.6 if dotted else 1.0),
                linestyle=(0, (2, 2)) if dotted else "-",
                alpha=0.9,
            )
        )


def _draw_box(axes: Axes, mark: Mark, half: float, *, dotted: bool) -> None:
    """Draw a box along something long, so wide on either side of it."""
    from matplotlib.patches import Polygon  # noqa: PLC0415 - loads slowly

    angle = np.radians(mark.angle_deg or 0.0)
    along = (0.5 * (mark.size_px or 0.0) + half) * np.array([np.cos(angle), np.sin(angle)])
    across = half * np.array([-np.sin(angle), np.cos(angle)])
    corners = np.array([mark.x, mark.y]) + np.array([along + across, along - across, -along - across, across - along])
    for colour, width in ((_EDGE, 3.0), (AMBER, 1.6)):
        axes.add_patch(
            Polygon(
                corners,
                closed=True,
                fill=False,
                edgecolor=colour,
                linewidth=width * (0.6 if dotted else 1.0),
                linestyle=(0, (2, 2)) if dotted else "-",
                alpha=0.9,
            )
        )


def _draw_label(axes: Axes, sigma: float, place: tuple[float, float], *, right: bool, colour: str) -> None:
    from matplotlib.patheffects import withStroke  # noqa: PLC0415 - loads slowly

    axes.text(
        *place,
        f"{sigma:.0f}{SIGMA}" if abs(sigma) < _LONGEST else f"{sigma:.0e}{SIGMA}",
        ha="left" if right else "right",
        va="center",
        color=colour,
        fontsize=11,
        fontweight="bold",
        path_effects=[withStroke(linewidth=2.6, foreground=_EDGE if colour == AMBER else PAPER)],
        clip_on=True,
    )
