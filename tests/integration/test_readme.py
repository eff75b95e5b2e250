"""Every example of the README runs, in its order, on the sample frames it names."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from pipeline.cli.app import run

ROOT = Path(__file__).parents[2]


def read_examples() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "sample_fits", folder / "sample_fits")
    return folder


@pytest.mark.timeout(300)
def test_every_example_runs(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.delenv("ODDFRAME_HOME", raising=False)
    examples = read_examples()
    assert len(examples) >= 15
    for line in examples:
        words = shlex.split(line)
        assert words[0] == "oddframe", line
        assert run(words[1:]) == 0, f"{line}\n{capsys.readouterr()}"
    assert (place / "flagged.png").read_bytes().startswith(b"\x89PNG")
