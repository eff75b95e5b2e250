"""Frame -> FrameRow: the typed core of a header, found through the alias table; nothing is guessed in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from math import isfinite

from pipeline.frame.aliases import Aliases, AliasTable, load_aliases
from pipeline.frame.obstime import find_night, find_obs_time
from pipeline.frame.quality import measure
from pipeline.frame.sky import find_pointing
from pipeline.frame.types import Frame, FrameRow, Quality, SkyRules

_PLANE = 2


def describe(frame: Frame, rules: SkyRules, table: AliasTable | None = None) -> FrameRow:
    """Describe a frame as one row: typed columns, sky zones, quality, and the header verbatim.

    What could not be read is None, and `notes` says why in one sentence each.

    Args:
        frame: the decoded frame.
        rules: HEALPix order and the pointing radius where the footprint is unknown.
        table: keyword aliases; None takes those that come with the package.
    """
    header = frame.header
    aliases = (load_aliases() if table is None else table).choose(header)
    notes = list(_note_cube(header))
    saturation = _find_number(header, aliases.saturation, aliases, "saturation", notes)
    quality = measure(frame.pixels, frame.valid, saturation)
    obs_time, source = find_obs_time(header, aliases)
    notes += [*_note_stars(quality), *_note_time(obs_time, source)]
    height, width = frame.pixels.shape
    return FrameRow(
        frame_id=frame.frame_id,
        name=frame.name,
        obs_time=obs_time,
        obs_time_source=source,
        night=None if obs_time is None else find_night(obs_time, header, aliases),
        instrument=_find_text(header, aliases.instrument, aliases),
        telescope=_find_text(header, aliases.telescope, aliases),
        filter=_find_filter(header, aliases),
        exposure_s=_find_exposure(header, aliases, notes),
        object=_find_text(header, aliases.object, aliases),
        image_type=_find_text(header, aliases.image_type, aliases),
        pointing=find_pointing(header, (height, width), rules, aliases, notes),
        width=width,
        height=height,
        hdu=frame.hdu,
        bitpix=frame.bitpix,
        quality=quality,
        header={keyword: _show(value) for keyword, value in header.items()},
        # last, since the fields before it add to them
        notes=tuple(notes),
    )


def _show(value: str | float | bool) -> str:
    """Write a header value as a header does: T and F for truth values."""
    if isinstance(value, bool):
        return "T" if value else "F"
    return value if isinstance(value, str) else repr(value)


def _find_texts(header: Mapping[str, object], keywords: Iterable[str], aliases: Aliases) -> list[str]:
    found = []
    for keyword in keywords:
        value = header.get(keyword)
        if value is None or isinstance(value, bool):
            continue
        text = str(value).strip()
        if text.lower() not in aliases.missing:
            found.append(text)
    return found


def _find_text(header: Mapping[str, object], keywords: Iterable[str], aliases: Aliases) -> str | None:
    return next(iter(_find_texts(header, keywords, aliases)), None)


def _find_filter(header: Mapping[str, object], aliases: Aliases) -> str | None:
    single = _find_texts(header, aliases.filter, aliases)
    slots = _find_texts(header, aliases.filter_slots, aliases)
    named = [text for text in single if text.lower() not in aliases.open_slots]
    if named:
        return named[0]
    glass = dict.fromkeys(text for text in slots if text.lower() not in aliases.open_slots)
    return "+".join(glass) or next(iter(single + slots), None)


def _find_number(
    header: Mapping[str, object], keywords: Iterable[str], aliases: Aliases, what: str, notes: list[str]
) -> float | None:
    for keyword in keywords:
        value = header.get(keyword)
        if value is None or (isinstance(value, str) and value.strip().lower() in aliases.missing):
            continue
        try:
            number = float("nan") if isinstance(value, bool) else float(str(value))
        except ValueError:
            number = float("nan")
        if isfinite(number):
            return number
        notes.append(f"{keyword} {value!r} is not a number, so it gives no {what}.")
    return None


def _find_exposure(header: Mapping[str, object], aliases: Aliases, notes: list[str]) -> float | None:
    seconds = _find_number(header, aliases.exposure, aliases, "exposure", notes)
    if seconds is not None and seconds < 0:
        notes.append(f"The exposure of {seconds} s is negative and was left out.")
        return None
    return seconds


def _note_cube(header: Mapping[str, object]) -> Iterable[str]:
    axes = header.get("NAXIS")
    lengths = [header.get(f"NAXIS{axis}") for axis in range(1, axes + 1)] if isinstance(axes, int) else []
    deep = [length for length in lengths if length != 1]
    if len(deep) > _PLANE:
        shown = " x ".join(str(length) for length in lengths)
        yield f"The image is a cube of {shown} pixels; its first plane was taken."


def _note_time(obs_time: datetime | None, source: str) -> Iterable[str]:
    if obs_time is None:
        yield f"The observation time is not known: {source}."


def _note_stars(quality: Quality) -> Iterable[str]:
    if quality.valid_fraction == 0:
        yield "The frame has no valid pixel."
    elif quality.stars is None and quality.noise:
        yield "The stars were not counted: the field is too crowded or too large an object fills it."
