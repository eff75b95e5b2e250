"""Text on pictures: plain style, badges, and letters made harmless whatever a header says."""

from __future__ import annotations

from bisect import bisect_right
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

PAPER = "#ffffff"
DARK = "#1c2733"
GREY = "#5a6673"
SIGMA = "\N{GREEK SMALL LETTER SIGMA}"
TIMES = "\N{MULTIPLICATION SIGN}"

_MOST_LETTERS = 800
_DOTS = 100  # an inch, as in the picture: hinting makes widths depend on it

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


def fit_text(text: str, inches: float, points: float, *, bold: bool = False) -> str:
    """A cleaned text cut to a width; what is cut off leaves an ellipsis."""
    line = clean_text(text, _MOST_LETTERS)
    if measure(line, points, bold=bold) <= inches:
        return line
    return f"{line[: _count_fitting(line, inches - measure('…', points, bold=bold), points, bold=bold)]}…"


def wrap_text(text: str, inches: float, points: float, lines: int) -> str:
    """A cleaned text in at most so many lines of a width, broken at blanks where there are any."""
    rest, done = clean_text(text, _MOST_LETTERS), list[str]()
    while rest and len(done) < lines - 1:
        fitting = max(1, _count_fitting(rest, inches, points))
        blank = rest.rfind(" ", 0, fitting + 1)
        if fitting < len(rest) and blank > 0:
            fitting = blank
        done.append(rest[:fitting])
        rest = rest[fitting:].lstrip()
    return "\n".join([*done, fit_text(rest, inches, points)] if rest else done)


def measure(text: str, points: float, *, bold: bool = False) -> float:
    """Width of a cleaned line, inches."""
    font = _find_font(bold=bold)
    font.set_size(points, _DOTS)
    font.set_text(text)
    return float(font.get_width_height()[0]) / (64 * _DOTS)


def _count_fitting(line: str, inches: float, points: float, *, bold: bool = False) -> int:
    return bisect_right(range(1, len(line) + 1), inches, key=lambda n: measure(line[:n], points, bold=bold))


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
    return frozenset(_find_font(bold=False).get_charmap()) & frozenset(_find_font(bold=True).get_charmap())


def _find_font(*, bold: bool) -> FT2Font:
    from matplotlib.font_manager import FontProperties, findfont, get_font  # noqa: PLC0415 - loads slowly

    return get_font(findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")))
