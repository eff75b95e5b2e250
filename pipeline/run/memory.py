"""What a process that handles one frame after another tells the memory allocator and the collector, once."""

from __future__ import annotations

import contextlib
import ctypes
import gc

# From malloc.h of glibc; other C libraries lack `mallopt`, and then nothing is set.
_MALLOC_TRIM_THRESHOLD, _MALLOC_MMAP_THRESHOLD, _KEPT_BYTES = -1, -3, 64 * 2**20


def keep_buffers() -> None:
    """Let malloc keep what a frame's arrays took: given back, every page is faulted in anew for the next frame."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_MALLOC_MMAP_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_MALLOC_TRIM_THRESHOLD, _KEPT_BYTES)


def keep_modules() -> None:
    """What is loaded by now stays: looking at it again at every collection costs more than the batch."""
    gc.freeze()
