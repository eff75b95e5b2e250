"""Frames with masks of bad pixels or tracks: whether the tiles that a spec marks are those that the mask names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.difference.tiles import Tile, lay_tiles
from pipeline.errors import UsageError
from pipeline.evaluate.bootstrap import estimate_share
from pipeline.evaluate.report import Heading, Item, Measure, describe_ranking
from pipeline.evaluate.specs import Floats, Mask, Spec
from pipeline.evaluate.truth import Folder, Masked, read_masked
from pipeline.frame.types import Frame

Tell = Callable[[str], None]

TILE_PX = 16
"""Side of a tile, about."""

CODES = {1: "bad pixel", 2: "no value", 3: "saturated", 4: "bleed trail", 5: "cosmic ray", 7: "transient"}
"""Codes of the DECam community pipeline's masks (NOIRLab Data Handbook, 4.2); others are named by their number."""

TRACK = "track"


@dataclass(frozen=True, eq=False, slots=True)
class Checked:
    """Tiles of one frame under one spec.

    Attributes:
        owner: the frame.
        scores: (n,).
        marked: (n,).
        named: kinds of defect on each tile; empty where it is good.
        counted: False for tiles of which the truth does not say.
    """

    owner: str
    scores: Floats
    marked: Mask
    named: tuple[frozenset[str], ...]
    counted: Mask


def evaluate_masks(folder: Folder, specs: Sequence[Spec], tell: Tell) -> list[Measure]:
    """Compare each frame with the others of its field and filter, and its marked tiles with its mask.

    Raises:
        UsageError: the truth does not fit the folder.
    """
    rows = read_masked(folder)
    files = [folder.find(row.file) for row in rows]
    masks = [None if row.mask is None else folder.find(row.mask) for row in rows]
    frames = [folder.read(file) for file in files]
    checked: list[list[Checked]] = [[] for _ in specs]
    missed = [0 for _ in specs]
    for i, (row, frame) in enumerate(zip(rows, frames, strict=True)):
        others = [f for j, f in enumerate(frames) if j != i and rows[j].field == row.field]
        tiles = _lay_tiles(frame)
        mask = masks[i]
        named, counted = _read_truth(folder, row, frame, tiles, None if mask is None else folder.read(mask))
        for number, spec in enumerate(specs):
            learnt = spec.learn(others) if others else None
            found = None if learnt is None else learnt.compare(frame)
            if found is None:
                missed[number] += 1
                continue
            scores, marked = found.rate_tiles(tiles), found.mark_tiles(tiles)
            checked[number].append(Checked(row.file, scores, marked, named, counted))
        tell(row.file)
    return [
        measure
        for spec, own, unanswered in zip(specs, checked, missed, strict=True)
        for measure in _tell_spec(Heading("masks", folder.name, spec.name), own, unanswered)
    ]


def _lay_tiles(frame: Frame) -> tuple[Tile, ...]:
    height, width = frame.pixels.shape
    return lay_tiles((height, width), (max(1, round(height / TILE_PX)), max(1, round(width / TILE_PX))))


def _read_truth(
    folder: Folder, row: Masked, frame: Frame, tiles: Sequence[Tile], mask: Frame | None
) -> tuple[tuple[frozenset[str], ...], Mask]:
    if mask is None:
        return _read_tracks(row, tiles)
    if mask.pixels.shape != frame.pixels.shape:
        raise UsageError(f"{folder.name}: the mask {row.mask} has another shape than {row.file}")
    codes = [np.unique(mask.pixels[tile.window]) for tile in tiles]
    named = tuple(
        frozenset(CODES.get(int(c), f"code {int(c)}") for c in own if np.isfinite(c) and c != 0) for own in codes
    )
    return named, np.ones(len(tiles), dtype=bool)


def _read_tracks(row: Masked, tiles: Sequence[Tile]) -> tuple[tuple[frozenset[str], ...], Mask]:
    """Tiles that hold a track's centre; those beside them may hold the rest of it, and do not count."""
    named, counted = [], []
    for tile in tiles:
        holds = any(tile.holds(x, y) for x, y in row.tracks)
        wide = Tile(tile.top - TILE_PX, tile.bottom + TILE_PX, tile.left - TILE_PX, tile.right + TILE_PX)
        named.append(frozenset({TRACK}) if holds else frozenset[str]())
        counted.append(holds or not any(wide.holds(x, y) for x, y in row.tracks))
    return tuple(named), np.asarray(counted)


def _tell_spec(heading: Heading, checked: Sequence[Checked], unanswered: int) -> list[Measure]:
    note = f"{unanswered} frames had no reference of their field and filter, or none that fits" if unanswered else ""
    if not checked:
        return describe_ranking(heading, "all", [], note)
    tiles = [
        (Item(float(score), bool(named), own.owner), bool(marked), named)
        for own in checked
        for score, marked, named, counts in zip(own.scores, own.marked, own.named, own.counted, strict=True)
        if counts
    ]
    measures = describe_ranking(heading, "all", [item for item, _, _ in tiles], note)
    pointed = [(item.odd, item.owner) for item, marked, _ in tiles if marked]
    share = estimate_share([odd for odd, _ in pointed], [owner for _, owner in pointed])
    measures.append(heading.tell("all", "precision_of_marks", share, f"{len(pointed)} tiles marked"))
    for kind in ("all", *sorted({name for _, _, named in tiles for name in named})):
        own_ones = [(m, item.owner) for item, m, named in tiles if kind in named or (named and kind == "all")]
        found = estimate_share([marked for marked, _ in own_ones], [owner for _, owner in own_ones])
        measures.append(heading.tell(kind, "recall_of_marks", found, f"{kind}: {len(own_ones)} tiles masked"))
    return measures
