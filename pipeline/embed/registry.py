"""Which embeddings there are, best first. Adding one is one import and one line here."""

from __future__ import annotations

from typing import TypeVar

from pipeline.embed.pixels import Pixels
from pipeline.embed.pixels_demo import PixelsDemo
from pipeline.embed.types import Embedding, Spec
from pipeline.errors import UsageError

S = TypeVar("S", bound=Spec)


def known_embeddings(pixels_shape: tuple[int, int]) -> tuple[Embedding, ...]:
    """Every embedding that takes one frame alone, in the order in which one is preferred when the user names none."""
    return (Pixels(rows=pixels_shape[0], columns=pixels_shape[1]), PixelsDemo())


def find_embedding(name: str, known: tuple[S, ...]) -> S:
    """The embedding of this name.

    Raises:
        UsageError: there is none; the text lists those there are.
    """
    for embedding in known:
        if embedding.name == name:
            return embedding
    raise UsageError(f"no embedding is named {name!r}; choose one of {', '.join(e.name for e in known)}")
