"""Name and version of `residual`, apart from what computes it: every command that opens a lake asks for them."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.difference.layout import DIMENSION, FORMAT


@dataclass(frozen=True, slots=True)
class ResidualSpec:
    """Name and version of the embedding; the length is that of all channels and the constant."""

    name: str = "residual"
    version: str = f"{FORMAT}-{DIMENSION}"
    dimension: int = DIMENSION
    saturates: bool = True
