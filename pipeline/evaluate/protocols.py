"""Protocols by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pipeline.errors import UsageError
from pipeline.evaluate.catalogue import SPECS, find_specs
from pipeline.evaluate.clouds import evaluate_clouds
from pipeline.evaluate.masks import evaluate_masks
from pipeline.evaluate.pairs import evaluate_kinds, evaluate_paired, evaluate_unpaired
from pipeline.evaluate.report import Measure
from pipeline.evaluate.series import SeriesPlan, evaluate_series
from pipeline.evaluate.simulated import evaluate_simulated
from pipeline.evaluate.specs import Spec
from pipeline.evaluate.truth import Folder

Tell = Callable[[str], None]
Protocol = Callable[[Folder, Sequence[Spec], SeriesPlan, Tell], list[Measure]]

PROTOCOLS: Mapping[str, Protocol] = {
    "paired": lambda folder, specs, _, tell: evaluate_paired(folder, specs, tell),
    "kinds": lambda folder, specs, _, tell: evaluate_kinds(folder, specs, tell),
    "unpaired": lambda folder, specs, _, tell: evaluate_unpaired(folder, specs, tell),
    "series": evaluate_series,
    "masks": lambda folder, specs, _, tell: evaluate_masks(folder, specs, tell),
    "clouds": lambda folder, specs, _, tell: evaluate_clouds(folder, specs, tell),
    "simulated": lambda folder, specs, plan, tell: evaluate_simulated(folder, specs, plan.budget, tell),
}

_WITHOUT_PEAK = ("series", "clouds", "simulated")


def evaluate(protocol: str, folder: Folder, spec_names: Sequence[str], plan: SeriesPlan, tell: Tell) -> list[Measure]:
    """Run a protocol over a folder.

    Args:
        protocol: its name.
        folder: frames and truth.
        spec_names: what to compare; empty for what the protocol is commonly asked of.
        plan: of protocols that have references to count, a budget or a ladder.
        tell: told of each frame done.

    Raises:
        UsageError: no such protocol or spec, or a truth that does not fit.
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"no protocol is named {protocol!r}; choose one of {', '.join(PROTOCOLS)}")
    # A yardstick for pairs: without registration it measures the drift.
    usual = tuple(name for name in SPECS if name != "peak" or protocol not in _WITHOUT_PEAK)
    return PROTOCOLS[protocol](folder, find_specs(spec_names or usual), plan, tell)
