"""Make every sample frame again: `python sample_fits/generate.py [DIRECTORY]`.

One small field: twelve reference frames, eight science frames (three normal, five odd), and the same sky once in
each way a FITS file may come. Same code, same bytes; only the compressed `.gz` and `.fz` also hang on the compressor.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import hashlib
import io
import sys
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path

import numpy as np
from astropy.io import fits

from pipeline.simulate.exposure import ExposurePlan, to_fits_bytes
from pipeline.simulate.files import make_directory, write_whole
from pipeline.simulate.night import DEFAULT_START, plan_night, write_night
from pipeline.simulate.render import render_exposure

HOME = Path(__file__).resolve().parent
SEED = 20260312
SHAPE = (160, 160)
LICENCE = "CC0-1.0"
ORIGIN = "simulated by oddframe: sample_fits/generate.py"
WHAT = {
    "normal": "nothing but the field",
    "supernova": "a new bright point beside a galaxy",
    "asteroid": "a bright, slightly drawn-out point that is in no other frame",
    "trail": "a satellite trail across the frame",
    "cloud": "a cloud: less starlight, more sky",
    "dead_column": "one column without light",
}


@dataclass(frozen=True)
class Entry:
    """One line of MANIFEST.csv.

    Attributes:
        file: path below this folder.
        role: `reference`, `science`, `format` or `truth`.
        kind: what was injected, `normal`, or `broken`.
        label: 1 odd, 0 normal, empty where the file is no frame that can be judged.
        what: one line on what it is.
        origin: where it comes from.
        licence: SPDX identifier.
        bytes: size.
        sha256: of the file.
        compare: how a fresh copy is compared: `bytes`, `unpacked` (gzip) or `pixels` (tile compression).
    """

    file: str
    role: str
    kind: str
    label: str
    what: str
    origin: str
    licence: str
    bytes: int
    sha256: str
    compare: str


def generate(directory: Path) -> list[Entry]:
    """Write all samples, `truth.csv` and `MANIFEST.csv` below a directory; return the manifest's lines."""
    plans = plan_night(SEED, preset="demo", fields=1, references=12, frames=8, anomaly_share=5 / 8, shape=SHAPE)
    rows = write_night(plans, directory)
    entries = [
        _describe(directory, row.file, role=row.role, kind=row.kind, label=str(row.label), what=WHAT[row.kind])
        for row in rows
    ]
    what = "what was injected where, for the frames in references/ and night/"
    entries.append(_describe(directory, "truth.csv", role="truth", kind="", label="", what=what))
    entries.extend(_write_formats(directory))
    write_whole(directory / "MANIFEST.csv", _format_manifest(entries).encode())
    return entries


def _write_formats(directory: Path) -> list[Entry]:
    make_directory(directory / "formats")
    # A night later, so that none of these has the content of a frame in night/.
    later = DEFAULT_START + timedelta(days=1)
    plans = plan_night(
        SEED, preset="demo", fields=1, references=0, frames=6, anomaly_share=0.0, shape=SHAPE, start=later
    )
    gzipped, bzipped, tiled, holed, extended, broken = plans
    made = [
        (gzipped, ".gz", gzip.compress(_plain(gzipped), mtime=0), "unpacked", "gzip-compressed"),
        (bzipped, ".bz2", bz2.compress(_plain(bzipped)), "bytes", "bzip2-compressed"),
        (tiled, ".fz", _compress_tiles(tiled), "pixels", "tile-compressed (Rice), image in the first extension"),
        (holed, "", _make_float_with_hole(holed), "bytes", "32-bit floats with a block of NaN"),
        (extended, "", _make_extensions(extended), "bytes", "no image in the primary unit, then SCI and MASK"),
        (broken, "", _plain(broken)[:20_000], "bytes", "broken on purpose: cut off within the pixels"),
    ]
    entries = []
    for plan, ending, content, compare, what in made:
        file = f"formats/{plan.name}{ending}"
        write_whole(directory / file, content)
        kind, label = ("broken", "") if plan is broken else ("normal", "0")
        entries.append(_describe(directory, file, role="format", kind=kind, label=label, what=what, compare=compare))
    return entries


def _plain(plan: ExposurePlan) -> bytes:
    return to_fits_bytes(*render_exposure(plan))


def _compress_tiles(plan: ExposurePlan) -> bytes:
    pixels, header = render_exposure(plan)
    image = fits.CompImageHDU(data=pixels, header=header, compression_type="RICE_1")
    return _pack(fits.HDUList([fits.PrimaryHDU(), image]))


def _make_float_with_hole(plan: ExposurePlan) -> bytes:
    pixels, header = render_exposure(plan)
    floats = pixels.astype(np.float32)
    floats[100:124, 30:54] = np.nan
    return _pack(fits.HDUList([fits.PrimaryHDU(data=floats, header=header)]))


def _make_extensions(plan: ExposurePlan) -> bytes:
    pixels, header = render_exposure(plan)
    mask = np.zeros(pixels.shape, dtype=np.uint8)
    mask[:, :2] = 1
    # What concerns the exposure stands in the primary header, what concerns the image in its own, as observatories do.
    of_image = {"GAIN", "RDNOISE", "SATURATE", "PIXSCALE", "BUNIT", "RADESYS", "WCSAXES"}
    primary, science = fits.Header(), fits.Header()
    for card in header.cards:
        image = card.keyword in of_image or card.keyword.startswith(("CTYPE", "CUNIT", "CRPIX", "CRVAL", "CD"))
        (science if image else primary).append(card)
    return _pack(
        fits.HDUList(
            [
                fits.PrimaryHDU(header=primary),
                fits.ImageHDU(data=pixels, header=science, name="SCI"),
                fits.ImageHDU(data=mask, name="MASK"),
            ]
        )
    )


def _pack(units: fits.HDUList) -> bytes:
    buffer = io.BytesIO()
    units.writeto(buffer)
    return buffer.getvalue()


def _describe(
    directory: Path, file: str, *, role: str, kind: str, label: str, what: str, compare: str = "bytes"
) -> Entry:
    content = (directory / file).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Entry(file, role, kind, label, what, ORIGIN, LICENCE, len(content), digest, compare)


def _format_manifest(entries: list[Entry]) -> str:
    text = io.StringIO()
    names = [field.name for field in fields(Entry)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([getattr(entry, name) for name in names] for entry in entries)
    return text.getvalue()


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HOME
    written = generate(target)
    print(f"{len(written)} files, {sum(entry.bytes for entry in written):,} bytes in {target}")
