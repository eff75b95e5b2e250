"""`sample_fits/` is what its generator makes, and what its manifest says."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

SAMPLES = Path(__file__).resolve().parents[2] / "sample_fits"


@pytest.fixture(scope="module")
def manifest():
    with (SAMPLES / "MANIFEST.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("sample_generator", SAMPLES / "generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["sample_generator"] = module
    try:
        spec.loader.exec_module(module)
        top = tmp_path_factory.mktemp("samples")
        module.generate(top)
    finally:
        del sys.modules["sample_generator"]
    return top


def read_pixels(path: Path) -> np.ndarray:
    with fits.open(path) as units:
        return np.array(units[1].data)


def test_the_manifest_lists_exactly_what_is_there(manifest):
    there = {path.relative_to(SAMPLES).as_posix() for path in SAMPLES.rglob("*") if path.is_file()}
    own = {"MANIFEST.csv", "README.md", "generate.py"}
    assert {line["file"] for line in manifest} == {name for name in there - own if "__pycache__" not in name}
    assert sum(int(line["bytes"]) for line in manifest) < 5_000_000
    for line in manifest:
        content = (SAMPLES / line["file"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (int(line["bytes"]), line["sha256"])
        assert line["licence"] == "CC0-1.0"


def test_the_generator_makes_the_same_again(manifest, fresh):
    for line in manifest:
        committed, made = SAMPLES / line["file"], fresh / line["file"]
        if line["compare"] == "bytes":
            assert hashlib.sha256(made.read_bytes()).hexdigest() == line["sha256"], line["file"]
        elif line["compare"] == "unpacked":
            assert gzip.decompress(made.read_bytes()) == gzip.decompress(committed.read_bytes())
        else:
            np.testing.assert_array_equal(read_pixels(made), read_pixels(committed))


def test_one_of_each_kind_and_twelve_references(manifest):
    kinds = sorted(line["kind"] for line in manifest if line["role"] == "science")
    assert kinds == ["asteroid", "cloud", "dead_column", "normal", "normal", "normal", "supernova", "trail"]
    assert sum(line["role"] == "reference" for line in manifest) == 12
    assert {line["label"] for line in manifest if line["role"] == "science"} == {"0", "1"}


def test_every_format_opens_and_the_broken_one_does_not(manifest):
    for line in (line for line in manifest if line["role"] == "format"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(SAMPLES / line["file"]) as units:
                if line["kind"] == "broken":
                    with pytest.raises((OSError, TypeError, ValueError)):
                        _ = units[0].data
                else:
                    images = [unit.data for unit in units if unit.data is not None]
                    assert images[0].shape == (160, 160)
