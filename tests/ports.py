"""Ports for services that tests start: free ones in a row, outside those that the system hands to clients."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

_FIRST, _LAST = 20_000, 31_000
_HANDED_OUT = Path("/proc/sys/net/ipv4/ip_local_port_range")


def find_free_ports(count: int) -> int:
    """The first of so many ports in a row that nothing listens on."""
    last = min(_LAST, int(_HANDED_OUT.read_text(encoding="utf-8").split()[0])) - count
    for _ in range(100):
        # By chance: another run may be looking at the same moment.
        first = random.randrange(_FIRST, last)
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    pytest.fail(f"no {count} free ports in a row were found")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
