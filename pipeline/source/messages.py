"""The three forms a frame takes in a message, read and written: raw bytes, JSON envelope, claim check.

A header `oddframe-form` says which; without it the first bytes do. A value comes from a network: sizes are looked at
before anything is decoded, and a path is opened only below roots that were allowed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote

from pipeline.errors import UnreadableFrameError
from pipeline.source.claims import open_claim
from pipeline.source.flatjson import read_flat_json

Headers = Sequence[tuple[str, bytes | None]]
"""As Kafka has them: in order, and a name may come twice; the last one counts."""

FORM_HEADER = "oddframe-form"
NAME_HEADER = "oddframe-name"
HASH_HEADER = "oddframe-sha256"
AGAIN_HEADER = "oddframe-again"
"""On a dead letter that is sent once more: what is known of its content does not settle it."""

OWN_HEADERS = "oddframe-"
"""What begins so is ours; every other header is metadata that the sender declares."""

# Names of fields in the order they are looked for; the first of each is the demo's and what is written here.
_DATA_FIELDS = ("image_data", "data", "content")
_NAME_FIELDS = ("file", "filename", "name")
_HASH_FIELD, _URI_FIELD, _FORMAT_FIELD = "sha256", "uri", "image_format"

_MAGIC = (b"SIMPLE  =", b"\x1f\x8b", b"BZh")
_JSON_BEGINS = (b"{", b"\xef\xbb\xbf{")
_MOST_METADATA = 256
_LONGEST_METADATA = 4_096
_LONGEST_NAME = 255
_CLAIM_BYTES = 65_536
_HEX_DIGITS = frozenset("0123456789abcdef")
_SHA256_DIGITS = 64


class Form(StrEnum):
    """How a frame travels."""

    RAW = "raw"  # the value is the file
    ENVELOPE = "envelope"  # the demo's: JSON with the file in base64
    CLAIM = "claim"  # JSON with a URI of the file and its sha256


@dataclass(frozen=True, slots=True)
class MessageRules:
    """What a message may ask for.

    Attributes:
        max_bytes: of a frame's content, in every form.
        claim_roots: directories that claim checks may point into; none: claim checks are refused.
    """

    max_bytes: int
    claim_roots: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Delivered:
    """A frame out of a message.

    Attributes:
        name: a file's name, no path: what the sender calls it.
        frame_id: sha256 of the content, computed here; it agrees with the one declared, if one was.
        payload: the content; of a claim check what its file held when it was opened.
        metadata: what the sender declared besides.
    """

    name: str
    form: Form
    frame_id: str
    payload: bytes
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return len(self.payload)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send."""

    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


def read_message(value: bytes | None, headers: Headers, rules: MessageRules, *, name: str = "frame") -> Delivered:
    """The frame of a message.

    Args:
        value: as received.
        headers: as received.
        rules: sizes and roots.
        name: what to call a frame that the sender gives no name.

    Raises:
        UnreadableFrameError: with code `empty`, `too_many_bytes`, `unknown_form`, `bad_json`, `bad_envelope`,
            `bad_base64`, `bad_claim`, `claim_refused`, `claim_outside`, `claim_missing`, `claim_not_a_file`,
            `too_large` or `hash_mismatch`.
        TransientError: the disk of a claim check does not answer.
    """
    if not value:
        raise UnreadableFrameError("empty", "the message has no value")
    known = {key: content for key, content in headers if content is not None}
    form = _tell_form(value, known.get(FORM_HEADER))
    called = _show(known[NAME_HEADER]) if NAME_HEADER in known else ""
    declared = _show(known[HASH_HEADER]) if HASH_HEADER in known else None
    if form is Form.RAW:
        return _finish(
            form, called or name, value, declared=declared, metadata=_read_metadata(known), max_bytes=rules.max_bytes
        )
    fields = _read_json(value, form, rules)
    is_claim = _URI_FIELD in fields if form is None else form is Form.CLAIM
    data = next((key for key in _DATA_FIELDS if key in fields), None)
    if form is None and is_claim == (data is not None):
        raise UnreadableFrameError("unknown_form", f"JSON has either {_URI_FIELD!r} or {_DATA_FIELDS[0]!r}")
    called = called or next((text for key in _NAME_FIELDS if isinstance(text := fields.get(key), str)), "") or name
    if _HASH_FIELD in fields:
        declared = str(fields[_HASH_FIELD])
    metadata = _choose_metadata(fields) | _read_metadata(known)
    if is_claim:
        return _redeem(fields.get(_URI_FIELD), called, declared, metadata, rules)
    content = _decode(fields.get(data) if data else None, rules.max_bytes)
    return _finish(Form.ENVELOPE, called, content, declared=declared, metadata=metadata, max_bytes=rules.max_bytes)


def write_raw(content: bytes, name: str, metadata: Mapping[str, str] | None = None) -> Outgoing:
    """A message whose value is the file."""
    return Outgoing(content, _write_headers(Form.RAW, name, hashlib.sha256(content).hexdigest(), metadata))


def write_envelope(content: bytes, name: str, metadata: Mapping[str, str] | None = None) -> Outgoing:
    """The demo's message: JSON, the file in base64 beside what is declared of it, every value a text."""
    fields = dict(metadata or {}) | {
        _NAME_FIELDS[0]: name,
        _FORMAT_FIELD: "FITS",
        _DATA_FIELDS[0]: base64.b64encode(content).decode("ascii"),
    }
    own = ((FORM_HEADER, Form.ENVELOPE.encode()), (HASH_HEADER, hashlib.sha256(content).hexdigest().encode()))
    return Outgoing(json.dumps(fields).encode(), own)


def write_claim(path: Path, frame_id: str, size: int, name: str, metadata: Mapping[str, str] | None = None) -> Outgoing:
    """A message that says where the file is, and what its content must be."""
    uri = "file://" + quote(str(path.absolute()).encode("utf-8", "surrogateescape"))
    claim = {_URI_FIELD: uri, _HASH_FIELD: frame_id, "size": size}
    return Outgoing(json.dumps(claim).encode(), _write_headers(Form.CLAIM, name, frame_id, metadata))


def _tell_form(value: bytes, declared: bytes | None) -> Form | None:
    """The form; None is JSON whose fields will tell."""
    if declared is not None:
        try:
            return Form(declared.decode("ascii"))
        except ValueError as error:
            raise UnreadableFrameError("unknown_form", f"{FORM_HEADER} is {_show(declared)[:40]!r}") from error
    if value.startswith(_MAGIC):
        return Form.RAW
    if value[:64].lstrip().startswith(_JSON_BEGINS):
        return None
    raise UnreadableFrameError("unknown_form", f"neither FITS, gzip, bzip2 nor JSON, and no {FORM_HEADER} header")


def _read_json(value: bytes, form: Form | None, rules: MessageRules) -> dict[str, object]:
    if len(value) > (_CLAIM_BYTES if form is Form.CLAIM else rules.max_bytes // 3 * 4 + 4 + _CLAIM_BYTES):
        raise UnreadableFrameError("too_many_bytes", f"a message of {len(value)} bytes is over the limit")
    return read_flat_json(value)


def _redeem(
    uri: object, name: str, declared: str | None, metadata: Mapping[str, str], rules: MessageRules
) -> Delivered:
    if not isinstance(uri, str) or declared is None or not _is_sha256(declared):
        raise UnreadableFrameError("bad_claim", "a claim check has the URI of a file and the sha256 of its content")
    content = open_claim(uri, rules.claim_roots, rules.max_bytes)
    return _finish(Form.CLAIM, name, content, declared=declared, metadata=metadata, max_bytes=rules.max_bytes)


def _decode(text: object, max_bytes: int) -> bytes:
    if not isinstance(text, str):
        raise UnreadableFrameError("bad_envelope", f"{_DATA_FIELDS[0]!r} is no text")
    # Two characters of padding are all that may go beyond the size of the content.
    if len(text) // 4 * 3 > max_bytes + 2:
        raise UnreadableFrameError("too_many_bytes", f"{len(text)} characters of base64 are over the limit")
    try:
        return binascii.a2b_base64(text.encode("ascii").translate(None, b"\r\n"), strict_mode=True)
    except ValueError as error:
        raise UnreadableFrameError("bad_base64", f"{_DATA_FIELDS[0]!r} is no base64: {error}") from error


def _finish(
    form: Form, name: str, content: bytes, *, declared: str | None, metadata: Mapping[str, str], max_bytes: int
) -> Delivered:
    if not content:
        raise UnreadableFrameError("empty", "the message holds no content")
    if len(content) > max_bytes:
        raise UnreadableFrameError("too_many_bytes", f"{len(content)} bytes are over the limit of {max_bytes}")
    frame_id = hashlib.sha256(content).hexdigest()
    if declared is not None:
        _check_hash(declared, frame_id)
    return Delivered(_clean_name(name), form, frame_id, content, metadata)


def _check_hash(declared: str, frame_id: str) -> None:
    if declared.lower() != frame_id:
        raise UnreadableFrameError("hash_mismatch", f"the content's sha256 is {frame_id}, not the one declared")


def _is_sha256(text: str) -> bool:
    return len(text) == _SHA256_DIGITS and set(text.lower()) <= _HEX_DIGITS


def _write_headers(
    form: Form, name: str, frame_id: str, metadata: Mapping[str, str] | None
) -> tuple[tuple[str, bytes], ...]:
    own = ((FORM_HEADER, form.value), (NAME_HEADER, name), (HASH_HEADER, frame_id))
    declared = tuple((metadata or {}).items())
    return tuple((key, text.encode("utf-8", "backslashreplace")) for key, text in (*declared, *own))


def _read_metadata(headers: Mapping[str, bytes]) -> dict[str, str]:
    declared = {key: _show(text) for key, text in headers.items() if not key.startswith(OWN_HEADERS)}
    return _limit(declared)


def _choose_metadata(fields: Mapping[str, object]) -> dict[str, str]:
    apart = {*_DATA_FIELDS, *_NAME_FIELDS, _HASH_FIELD, _URI_FIELD}
    return _limit(
        {key: text if isinstance(text, str) else json.dumps(text) for key, text in fields.items() if key not in apart}
    )


def _limit(declared: Mapping[str, str]) -> dict[str, str]:
    kept = list(declared.items())[:_MOST_METADATA]
    return {_make_storable(key): _make_storable(text) for key, text in kept}


def _make_storable(text: str) -> str:
    # Half a surrogate pair is valid in JSON and in no table.
    return text[:_LONGEST_METADATA].encode("utf-8", "backslashreplace").decode()


def _clean_name(name: str) -> str:
    """The last part of a name, without what a terminal or a file system would take for something else."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2]
    shown = "".join(c if c.isprintable() else "_" for c in last).strip()
    while len(shown.encode("utf-8", "replace")) > _LONGEST_NAME:
        shown = shown[:-1]
    return shown if shown.strip(".") else "frame"


def _show(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")
