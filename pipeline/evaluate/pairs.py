"""Science cutouts with one reference each: the tile of the event against the others, and one kind against another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.difference.tiles import Tile, lay_tiles
from pipeline.evaluate.report import Heading, Item, Measure, describe_ranking
from pipeline.evaluate.specs import Comparison, Knowledge, Spec
from pipeline.evaluate.truth import Folder, Pair, read_pairs
from pipeline.frame.types import Frame

Tell = Callable[[str], None]

GRID = (3, 3)
"""Tiles of a cutout; the event lies on one of them, and the others are what a normal tile looks like."""

NO_POSITION = "without the position this measures that a star is there, variable or new: never quote it alone"


@dataclass(frozen=True, slots=True)
class Scored:
    """A pair as one spec sees it: the event's tile and the others."""

    pair: Pair
    event: float
    others: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """All pairs under one spec; `unanswered` of them it could not compare: there nothing was found, so all is 0."""

    spec: str
    scored: tuple[Scored, ...]
    unanswered: int


def evaluate_paired(folder: Folder, specs: Sequence[Spec], tell: Tell) -> list[Measure]:
    """Learn from the one reference of each position, then rank the event's tile among the eight others, by kind.

    Raises:
        UsageError: the truth does not fit the folder.
    """
    outcomes = _compare_pairs(folder, specs, tell)
    return _rank_tiles("paired", folder, outcomes)


def evaluate_unpaired(folder: Folder, specs: Sequence[Spec], tell: Tell) -> list[Measure]:
    """The same with all references of one shape and filter, whatever their position; see `NO_POSITION`.

    Raises:
        UsageError: the truth does not fit the folder.
    """
    pairs = read_pairs(folder)
    opened = [folder.read(folder.find_stem(f"{pair.name}_ref")) for pair in pairs]
    alike: dict[tuple[object, ...], list[Frame]] = {}
    for reference in opened:
        alike.setdefault(_describe(reference), []).append(reference)
    plain = [spec for spec in specs if not spec.registers]
    learnt = {key: [spec.learn(references) for spec in plain] for key, references in alike.items()}
    outcomes = _collect(plain)
    for pair in pairs:
        frame = folder.read(folder.find_stem(f"{pair.name}_sci"))
        _add(outcomes, pair, frame, learnt.get(_describe(frame), [None] * len(plain)))
        tell(pair.name)
    measures = _rank_tiles("unpaired", folder, _close(outcomes), NO_POSITION)
    barred = [spec for spec in specs if spec.registers]
    return measures + [
        m
        for spec in barred
        for m in describe_ranking(
            Heading("unpaired", folder.name, spec.name), "all", [], "compares nothing without the position"
        )
    ]


def evaluate_kinds(folder: Folder, specs: Sequence[Spec], tell: Tell) -> list[Measure]:
    """Rank the event's tile of each new kind against that of stars that vary: light in a new place, or more of it.

    Raises:
        UsageError: the truth does not fit the folder.
    """
    measures = []
    for outcome in _compare_pairs(folder, specs, tell):
        heading = Heading("kinds", folder.name, outcome.spec)
        usual = [s for s in outcome.scored if not s.pair.anomaly]
        note = _note(outcome)
        for kind in sorted({s.pair.kind for s in outcome.scored if s.pair.anomaly}):
            new = [s for s in outcome.scored if s.pair.kind == kind and s.pair.anomaly]
            items = [Item(s.event, bool(s.pair.anomaly), s.pair.owner) for s in (*new, *usual)]
            against = " and ".join(sorted({s.pair.kind for s in usual})) or "nothing"
            measures += describe_ranking(heading, f"{kind} against {against}", items, note)
    return measures


def _compare_pairs(folder: Folder, specs: Sequence[Spec], tell: Tell) -> list[Outcome]:
    outcomes = _collect(specs)
    pairs = read_pairs(folder)
    places = [[folder.find_stem(f"{pair.name}_{part}") for part in ("ref", "sci")] for pair in pairs]
    for pair, (reference, science) in zip(pairs, places, strict=True):
        references = [folder.read(reference)]
        _add(outcomes, pair, folder.read(science), [spec.learn(references) for spec in specs])
        tell(pair.name)
    return _close(outcomes)


def _collect(specs: Sequence[Spec]) -> dict[str, list[tuple[Pair, Scored | None]]]:
    return {spec.name: [] for spec in specs}


def _add(
    outcomes: dict[str, list[tuple[Pair, Scored | None]]], pair: Pair, frame: Frame, learnt: Sequence[Knowledge | None]
) -> None:
    height, width = frame.pixels.shape
    for kept, knowledge in zip(outcomes.values(), learnt, strict=True):
        fits = knowledge is not None and min(height, width) >= max(GRID)
        found = knowledge.compare(frame) if knowledge is not None and fits else None
        scored = None if found is None else _score(pair, found, lay_tiles((height, width), GRID))
        kept.append((pair, scored))


def _score(pair: Pair, found: Comparison, tiles: Sequence[Tile]) -> Scored:
    middle = len(tiles) // 2
    holding = [i for i, t in enumerate(tiles) if pair.x is not None and pair.y is not None and t.holds(pair.x, pair.y)]
    at = holding[0] if holding else middle
    scores = found.rate_tiles(tiles).tolist()
    return Scored(pair, scores[at], tuple(s for i, s in enumerate(scores) if i != at))


def _close(outcomes: dict[str, list[tuple[Pair, Scored | None]]]) -> list[Outcome]:
    nothing = (0.0,) * (GRID[0] * GRID[1] - 1)
    return [
        Outcome(name, tuple(s or Scored(pair, 0.0, nothing) for pair, s in kept), sum(s is None for _, s in kept))
        for name, kept in outcomes.items()
    ]


def _rank_tiles(protocol: str, folder: Folder, outcomes: Sequence[Outcome], warning: str = "") -> list[Measure]:
    measures = []
    for outcome in outcomes:
        heading = Heading(protocol, folder.name, outcome.spec)
        note = "; ".join(text for text in (warning, _note(outcome)) if text)
        for kind in sorted({s.pair.kind for s in outcome.scored}):
            own = [s for s in outcome.scored if s.pair.kind == kind]
            items = [Item(s.event, odd=True, owner=s.pair.owner) for s in own]
            items += [Item(score, odd=False, owner=s.pair.owner) for s in own for score in s.others]
            measures += describe_ranking(heading, kind, items, note)
    return measures


def _note(outcome: Outcome) -> str:
    return f"{outcome.unanswered} pairs could not be compared and count as not found" if outcome.unanswered else ""


def _describe(frame: Frame) -> tuple[object, ...]:
    return (frame.pixels.shape, str(frame.header.get("FILTER", "")).strip())
