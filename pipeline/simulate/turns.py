"""When exposures begin: in turns, one exposure of every field after another, in one night or dealt out over many."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from pipeline.errors import UsageError

# A field comes to the same place in the sky, and so to the same air mass, a sidereal day later: four minutes earlier by
# the clock. Whole seconds, as in the names of files.
SIDEREAL_DAY = timedelta(seconds=86_164)
# Over so many nights a field that is high in the evening is still high before dawn.
SEASON_NIGHTS = 90
# Sidereal days after which both the place in the sky and the time of night come round again.
YEAR_NIGHTS = 366
MOST_NIGHTS = 100 * SEASON_NIGHTS
# No telescope is on a field at the same minute every night.
LARGEST_DELAY = timedelta(minutes=20)


def list_turns(seed: int, *, begin: datetime, count: int, nights: int, spacing: timedelta) -> list[datetime]:
    """Say when each turn begins, the earliest first.

    One night begins at `begin`. Of several that is the last one; the others are drawn from the season before it, and
    from those of the years before where a season has too few. Each has about the same number of turns.

    Args:
        seed: fixes which nights, together with `begin`.
        begin: start of the last night, with a time zone.
        count: turns in all.
        nights: nights to deal them out over, never more than there are turns; 0 for a night of its own for each.
        spacing: time from one turn of a night to the next.

    Raises:
        UsageError: more nights than `MOST_NIGHTS`, fewer than none, or more turns than fit into a night.
    """
    wanted = min(nights, count) if nights else count
    if not 0 <= wanted <= MOST_NIGHTS:
        raise UsageError(f"references lie on 1 to {MOST_NIGHTS} nights (0: each on its own), not on {wanted}")
    if wanted > 1 and -(-count // wanted) * spacing > SIDEREAL_DAY - LARGEST_DELAY:
        raise UsageError(f"{count} references of each field do not fit into {wanted} nights")
    return [
        night + turn * spacing
        for number, night in enumerate(_draw_nights(seed, begin, wanted))
        for turn in range((number + 1) * count // wanted - number * count // wanted)
    ]


def _draw_nights(seed: int, begin: datetime, nights: int) -> list[datetime]:
    if nights == 0:
        return []
    rng = np.random.default_rng((seed, int(begin.timestamp()) // 60))
    seasons = -(-nights // SEASON_NIGHTS)
    drawn = 1 + rng.permutation(seasons * SEASON_NIGHTS - 1)[: nights - 1]
    delays = rng.integers(int(LARGEST_DELAY.total_seconds()), size=nights - 1)
    back = drawn + drawn // SEASON_NIGHTS * (YEAR_NIGHTS - SEASON_NIGHTS)
    earlier = [
        begin - int(days) * SIDEREAL_DAY + timedelta(seconds=int(delay))
        for days, delay in zip(back, delays, strict=True)
    ]
    return [*sorted(earlier), begin]
