"""Header cards: 80 bytes each, read in plain Python where they are ordinary and by astropy where they are not."""

from __future__ import annotations

import re
import warnings

from astropy.io import fits

from pipeline.errors import UnreadableFrameError

Value = str | int | float | bool

CARD = 80
BLOCK = 2880

_END = re.compile(rb"END[ \0]{5}")
_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8}")
_STRING = re.compile(r" *'((?:[^']|'')*)' *(?:/.*)?")
_INTEGER = re.compile(r"[+-]?\d+")
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[EeDd][+-]?\d+)?")
_UNPRINTABLE = re.compile(r"[^ -~]")
_CONTINUE = "CONTINUE  "
_COMMENTARY = frozenset({"COMMENT", "HISTORY", ""})


def find_header_end(payload: bytes, start: int, max_cards: int) -> int:
    """Find the offset of the END card of the header that begins at `start`.

    Raises:
        UnreadableFrameError: `too_large` past `max_cards`, `truncated` where the bytes end first.
    """
    stop = start + max_cards * CARD
    for match in _END.finditer(payload, start, min(len(payload), stop)):
        if (match.start() - start) % CARD == 0:
            return match.start()
    if len(payload) >= stop:
        raise UnreadableFrameError("too_large", f"A header has more than {max_cards} cards and no END among them.")
    raise UnreadableFrameError(
        "truncated", f"A header begins at byte {start} and has no END in the {len(payload) - start} bytes left."
    )


def read_cards(raw: bytes) -> dict[str, Value]:
    """Read the cards of one header (without END) into keyword -> value, in file order.

    Of a repeated keyword the first counts, as in astropy. COMMENT and HISTORY cards are joined by newlines, blank
    ones dropped, a keyword without a value gives an empty string, a complex number stays text. A value that is no FITS
    value is kept as its text. Bytes outside printable ASCII, which the standard forbids, become question marks.
    """
    text = _UNPRINTABLE.sub("?", raw.decode("latin-1"))
    header: dict[str, Value] = {}
    remarks: dict[str, list[str]] = {}
    start = 0
    while start < len(text):
        end = start + CARD
        keyword = text[start : start + 8].rstrip()
        if keyword in _COMMENTARY:
            remarks.setdefault(keyword, []).append(text[start + 8 : end].rstrip())
        else:
            while text.startswith(_CONTINUE, end):
                end += CARD
            keyword, value = _read_card(keyword, text[start:end])
            header.setdefault(keyword, value)
        start = end
    header |= {keyword: "\n".join(lines) for keyword, lines in remarks.items() if keyword}
    return header


def write_card(keyword: str, value: Value) -> str:
    """Write one card of 80 characters; floats with all their digits, which astropy's own writer may cut.

    Strings must fit in one card; the header rooms here write only short ones.
    """
    if isinstance(value, str):
        text = "'" + value.replace("'", "''").ljust(8) + "'"
    elif isinstance(value, bool):
        text = "T" if value else "F"
    else:
        text = repr(value).upper()
    card = f"{keyword:8}= {text:>20}"
    if len(card) > CARD:
        raise UnreadableFrameError("bad_header", f"{keyword} is too long for its card.")
    return card.ljust(CARD)


def _read_card(keyword: str, card: str) -> tuple[str, Value]:
    if card[8:10] == "= " and len(card) == CARD and _KEYWORD.fullmatch(keyword) is not None:
        value = _read_value(card[10:])
        if value is not None:
            return keyword, value
    return _read_unusual(keyword, card)


def _read_value(body: str) -> Value | None:
    quoted = _STRING.fullmatch(body)
    if quoted is not None:
        return quoted[1].replace("''", "'").rstrip()
    plain = body.partition("/")[0].strip()
    if plain in ("T", "F"):
        return plain == "T"
    if _INTEGER.fullmatch(plain) is not None:
        return int(plain)
    if _FLOAT.fullmatch(plain) is not None:
        return float(plain.replace("D", "E").replace("d", "e"))
    return "" if not plain else None


def _read_unusual(keyword: str, card: str) -> tuple[str, Value]:
    """Read a card that is continued, has a long keyword (HIERARCH) or a loosely written value."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = fits.Card.fromstring(card)
            keyword, value = str(read.keyword), read.value
    except Exception:  # noqa: BLE001 - astropy raises many kinds; a card it cannot read is kept as its text
        return keyword, card[8:].removeprefix("=").strip()
    if isinstance(value, str):
        return keyword, value.rstrip()
    if isinstance(value, bool | int | float):
        return keyword, value
    return keyword, "" if value is None or isinstance(value, fits.card.Undefined) else str(value)
