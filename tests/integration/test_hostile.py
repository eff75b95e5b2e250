"""A thousand files that lie, through the whole of ingest: nothing crashes, hangs, grows or disagrees afterwards."""

from __future__ import annotations

import bz2
import gzip
import io
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from astropy.io import fits

from tests.lake_tools import add_references, ingest, lake_at, plan_field, rows, snapshots, write_plans, wrong

MUTANTS = 1000
LIMITS = {
    "max_bytes": 400_000, "max_unpacked_bytes": 2**21, "max_pixels": 2**18, "seconds": 5, "memory_mb": 1024,
}  # fmt: skip
SECONDS_ALLOWED = 240
GROWTH_ALLOWED = 400 * 2**20
KEYWORDS = [
    *("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "BZERO", "EXPTIME", "DATE-OBS", "CRVAL1", "CRVAL2", "CD1_1"),
    *("CTYPE1", "CRPIX1", "FILTER", "INSTRUME", "RA", "DEC", "MJD-OBS", "SATURATE", "OBSTYPE", "EXTEND", "WCSAXES"),
]
LIES = [
    *(
        "0",
        "-1",
        "1",
        "2",
        "3",
        "999",
        "2147483648",
        "99999999999999999999",
        "-32",
        "64",
        "1E400",
        "-1E400",
        "NaN",
        "T",
    ),
    *("F", "''", "'x'", "'2024-13-45T99:99:99'", "'9999-12-31T23:59:59.999'", "'0001-01-01'", "1E-300", "'\"or 1=1'"),
    *("''''''''", "(1,2)", "'%s%n'", "'{0}'", "'../../../etc'", "'        '", "1.7976931348623157E308"),
]


def pack(*units: object) -> bytes:
    buffer = io.BytesIO()
    fits.HDUList(list(units)).writeto(buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory) -> tuple[list[Path], list[bytes]]:
    """Honest frames: references, and one frame in each form it may come in."""
    plans = plan_field(6, 1, seed=31, shape=(64, 64))
    directory = tmp_path_factory.mktemp("seeds")
    references = write_plans(plans[:6], directory)
    plain = write_plans(plans[6:], directory / "frame")[0].read_bytes()
    with fits.open(io.BytesIO(plain)) as units:
        pixels, header = np.array(units[0].data), units[0].header
    floats = pixels.astype(np.float32)
    floats[10:20, 10:20] = np.nan
    forms = [
        plain,
        pack(fits.PrimaryHDU(floats, header)),
        pack(fits.PrimaryHDU(), fits.ImageHDU(pixels, header, name="SCI"), fits.ImageHDU(pixels, name="DQ")),
        pack(fits.PrimaryHDU(), fits.CompImageHDU(pixels, header, compression_type="RICE_1")),
        pack(fits.PrimaryHDU(), fits.CompImageHDU(floats, header, compression_type="GZIP_2")),
        gzip.compress(plain, mtime=0),
        bz2.compress(plain),
    ]
    return references, forms


def cut(chance: random.Random, seed: bytes) -> bytes:
    return seed[: chance.randrange(len(seed))]


def flip(chance: random.Random, seed: bytes) -> bytes:
    damaged = bytearray(seed)
    for _ in range(chance.choice([1, 3, 30])):
        damaged[chance.randrange(min(len(seed), chance.choice([400, 6000, len(seed)])))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def lie(chance: random.Random, seed: bytes) -> bytes:
    for _ in range(chance.randint(1, 4)):
        keyword = chance.choice(KEYWORDS)
        at = seed.find(keyword.ljust(8).encode() + b"=")
        if at >= 0:
            seed = seed[:at] + f"{keyword:8}= {chance.choice(LIES):>20}".ljust(80).encode()[:80] + seed[at + 80 :]
    return seed


def claim_huge(chance: random.Random, seed: bytes) -> bytes:
    for axis in ("NAXIS1", "NAXIS2"):
        at = seed.find(axis.encode() + b"  =")
        if at >= 0:
            size = chance.choice([10**5, 2**31 - 1, 2**31, 2**62, 2**63, 10**30])
            seed = seed[:at] + f"{axis:8}= {size:>20}".ljust(80).encode()[:80] + seed[at + 80 :]
    return seed


def bomb(chance: random.Random, seed: bytes) -> bytes:
    content = seed[:2880] + bytes(chance.choice([3 * 2**20, 40 * 2**20]))
    packed = chance.choice([lambda b: gzip.compress(b, 1), bz2.compress])(content)
    return gzip.compress(packed, 1) if chance.random() < 0.3 else packed


def pad(chance: random.Random, seed: bytes) -> bytes:
    return seed + chance.choice([b"\0", b" ", b"END     "]) * chance.choice([1, 2880, 40_000, 100_000])


def repeat_units(chance: random.Random, seed: bytes) -> bytes:
    unit = b"XTENSION= 'IMAGE   '".ljust(80) + b"BITPIX  =                    8".ljust(80)
    unit += b"NAXIS   =                    0".ljust(80) + b"PCOUNT  =                    0".ljust(80)
    unit += b"GCOUNT  =                    1".ljust(80) + b"END".ljust(80)
    return seed + unit.ljust(2880) * chance.randint(1, 120)


def make_garbage(chance: random.Random, seed: bytes) -> bytes:
    start = chance.choice([b"", b"SIMPLE  =                    T", b"\x1f\x8b\x08", b"BZh91AY&SY", seed[:2880]])
    return start + chance.randbytes(chance.choice([0, 1, 79, 2880, 20_000]))


MUTATIONS: list[Callable[[random.Random, bytes], bytes]] = [
    *(cut, cut, flip, flip, flip, lie, lie, lie, claim_huge, bomb, pad, repeat_units, make_garbage),
]


@pytest.fixture(scope="module")
def mutants(tmp_path_factory, seeds) -> list[Path]:
    chance = random.Random(1234567)
    directory = tmp_path_factory.mktemp("mutants")
    paths = []
    for number in range(MUTANTS):
        mutate = MUTATIONS[number % len(MUTATIONS)]
        path = directory / f"{number:04}-{mutate.__name__}.fits"
        path.write_bytes(mutate(chance, chance.choice(seeds[1])))
        paths.append(path)
    return paths


@contextmanager
def watch_memory() -> Iterator[list[int]]:
    """The most memory this process held, bytes, in the only element once it is over."""
    process, peak, over = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


def test_a_thousand_mutants_are_judged_or_quarantined_and_verify_agrees(seeds, mutants, tmp_path):
    with lake_at(tmp_path, decode=LIMITS) as lake:
        add_references(lake, seeds[0])
        before, started = psutil.Process().memory_info().rss, time.monotonic()
        with watch_memory() as peak:
            reports = ingest(lake, mutants)
        assert time.monotonic() - started < SECONDS_ALLOWED
        assert peak[0] - before < GROWTH_ALLOWED
        assert [r["name"] for r in reports] == [path.name for path in mutants]
        statuses = Counter(r["status"] for r in reports)
        assert statuses.keys() <= {"normal", "anomaly", "no_reference", "not_searched", "unreadable"}
        assert statuses["unreadable"] > 300
        assert statuses.total() - statuses["unreadable"] > 100
        assert all(r["reason"] and "\n" not in r["reason"] for r in reports)
        faults = [(r["name"], r["reason"]) for r in reports if "fault" in r["reason"] or "worker_died" in r["reason"]]
        assert faults == []
        unreadable = {r["frame_id"] for r in reports if r["status"] == "unreadable"}
        assert {row["frame_id"] for row in rows(lake, "quarantine")} == unreadable
        judged = {r["frame_id"] for r in reports} - unreadable
        assert {row["frame_id"] for row in rows(lake, "frames")} >= judged
        assert wrong(lake) == {}
        held = snapshots(lake)
        assert ingest(lake, mutants[:200]) == reports[:200]
        assert snapshots(lake) == held


def test_a_decoder_that_runs_over_its_time_loses_its_frame_and_nothing_else(seeds, tmp_path):
    """Half a megabyte that unpacks to a hundred megapixels with millions of sources takes half a minute."""
    speckled = np.zeros((10_000, 10_000), dtype=np.uint8)
    speckled[::7, ::3] = 9
    slow = tmp_path / "slow.fits.gz"
    slow.write_bytes(gzip.compress(pack(fits.PrimaryHDU(speckled)), 1))
    with lake_at(tmp_path / "home", decode={"seconds": 3, "memory_mb": 4096}) as lake:
        started = time.monotonic()
        reports = ingest(lake, [slow, *seeds[0][:3]])
        assert time.monotonic() - started < 20
        assert [r["status"] for r in reports] == ["unreadable", *["no_reference"] * 3]
        assert reports[0]["reason"] == "time_limit: decoding it took longer than 3 s"
        assert wrong(lake) == {}


def test_a_frame_that_needs_more_memory_than_a_worker_has_is_quarantined(seeds, tmp_path):
    huge = fits.PrimaryHDU(np.ones((9000, 9000), dtype=np.uint8))
    packed = tmp_path / "huge.fits.gz"
    packed.write_bytes(gzip.compress(pack(huge), 1))
    with lake_at(tmp_path / "home", decode={"memory_mb": 512}) as lake:
        reports = ingest(lake, [packed, seeds[0][0]])
        assert [r["status"] for r in reports] == ["unreadable", "no_reference"]
        assert reports[0]["reason"].split(":")[0] in ("too_large", "worker_died")
        assert wrong(lake) == {}


def test_a_file_larger_than_a_worker_may_hold_stops_nothing(seeds, tmp_path):
    large = tmp_path / "large.fits"
    with large.open("wb") as file:
        file.write(seeds[1][0])
        file.truncate(600 * 2**20)
    with lake_at(tmp_path / "home", decode={"memory_mb": 512, "max_bytes": 2**30}) as lake:
        reports = ingest(lake, [large, seeds[0][0]])
        assert [r["status"] for r in reports] == ["unreadable", "no_reference"]
        assert reports[0]["reason"].startswith("too_large")
        assert wrong(lake) == {}
