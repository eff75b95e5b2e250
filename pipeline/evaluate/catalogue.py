"""Which specs can be evaluated."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import UsageError
from pipeline.evaluate.differences import Differences
from pipeline.evaluate.plain import PeakSpec, PixelsSpec
from pipeline.evaluate.specs import Spec
from pipeline.evaluate.vectors import ResidualSpec, TilesSpec

SPECS = ("residual", "tiles", "pixels", "peak")


def find_specs(names: Sequence[str]) -> tuple[Spec, ...]:
    """Specs of these names, each once.

    Raises:
        UsageError: there is none of such a name; the text lists those there are.
    """
    shared = Differences()
    known: dict[str, Spec] = {
        spec.name: spec for spec in (ResidualSpec(shared), TilesSpec(shared), PixelsSpec(), PeakSpec())
    }
    for name in names:
        if name not in known:
            raise UsageError(f"no spec is named {name!r}; choose one of {', '.join(SPECS)}")
    return tuple(known[name] for name in dict.fromkeys(names))
