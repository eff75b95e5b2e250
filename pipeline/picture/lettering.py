"""Text on pictures: plain style, badges, and letters made harmless whatever a header says."""

from __future__ import annotations

import textwrap
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAPER = "#ffffff"
DARK = "#1c2733"
GREY = "#5a6673"
SIGMA = "\N{GREEK SMALL LETTER SIGMA}"
TIMES = "\N{MULTIPLICATION SIGN}"

_BADGES = {
    "anomaly": "#d55e00",
    "normal": "#00724f",
    "no_reference": "#7a5c00",
    "not_searched": "#5a6673",
    "unreadable": "#8a2252",
}


def plain_style() -> AbstractContextManager[None]:
    """Matplotlib's own defaults, whatever a `matplotlibrc` of the user says."""
    from matplotlib import style  # noqa: PLC0415 - loads slowly

    return style.context(["default", {"font.family": "DejaVu Sans", "font.size": 10.0, "text.parse_math": False}])


def clean_text(text: str, most: int) -> str:
    """One line that can be drawn: letters the font has, at most so many of them.

    Control, direction and missing letters become `?`, any white space one blank.
    """
    line = " ".join(text[: 4 * most].split())
    drawable = _drawable()
    line = "".join(letter if ord(letter) in drawable and letter.isprintable() else "?" for letter in line)
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[: most - 1]}…"


def wrap_text(text: str, letters: int, lines: int) -> str:
    """A cleaned text of at most so many lines of so many letters."""
    return "\n".join(textwrap.wrap(clean_text(text, letters * lines - lines), letters)[:lines])


def draw_badge(figure: Figure, left: float, middle: float, status: str) -> float:
    """A coloured label with the status.

    Args:
        figure: what it is drawn on.
        left: of the label, as a fraction of the figure's width.
        middle: of its height, as a fraction of the figure's.
        status: one of the five verdicts; anything else is drawn in grey.

    Returns:
        Where the next text may begin, as a fraction of the width.
    """
    label = figure.text(
        left,
        middle,
        clean_text(status.replace("_", " "), 20),
        fontsize=12.5,
        fontweight="bold",
        color="white",
        va="center",
        parse_math=False,
        bbox={"boxstyle": "round,pad=0.35", "facecolor": _BADGES.get(status, GREY), "edgecolor": "none"},
    )
    return float(label.get_window_extent().x1 / figure.bbox.width) + 0.012


@cache
def _drawable() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font  # noqa: PLC0415 - loads slowly

    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())
