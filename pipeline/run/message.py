"""A message of a log -> a landed frame: unwrapped, its content kept; one that holds no frame lands with its fault."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from pipeline.clock import now_utc
from pipeline.errors import UnreadableFrameError
from pipeline.ports import OriginalStore, RawFrame
from pipeline.run.land import Landed
from pipeline.run.prepared import Unreadable
from pipeline.source.kafka_messages import KafkaMessage
from pipeline.source.messages import AGAIN_HEADER, MessageRules, read_message, write_raw

_HELD_BYTES = 65_536
"""A larger message is not held while its frame is worked on: its content is among the originals."""


def land_message(message: KafkaMessage, originals: OriginalStore, rules: MessageRules) -> Landed:
    """Unwrap a message and keep its frame's bytes.

    Raises:
        TransientError: the copy cannot be written, or the disk of a claim check does not answer.
    """
    again = any(key == AGAIN_HEADER for key, _ in message.headers)
    whole = sha256(message.value or b"").hexdigest() if again else None
    try:
        delivered = read_message(message.value, message.headers, rules, name=message.name)
    except UnreadableFrameError as error:
        content = message.value or b""
        raw = _number(message, message.name, sha256(content).hexdigest(), len(content))
        return Landed(raw.path, raw.frame_id, raw.size, raw.path, raw, Unreadable(error.code, error.reason), again)
    place = originals.keep(delivered.frame_id, delivered.payload)
    raw = _number(message, delivered.name, delivered.frame_id, delivered.size)
    raw = replace(raw, declared=tuple(delivered.metadata.items()))
    return Landed(raw.path, raw.frame_id, raw.size, place, raw, again=again, formerly=whole)


def _number(message: KafkaMessage, name: str, frame_id: str, size: int) -> RawFrame:
    return RawFrame(name, Path(name), message.position, frame_id, size, now_utc(), message.empty)


def lighten(message: KafkaMessage, landed: Landed) -> KafkaMessage:
    """The message without a value that is kept elsewhere."""
    if landed.fault is not None or message.size <= _HELD_BYTES:
        return message
    return replace(message, value=None)


def restore(message: KafkaMessage, landed: Landed, originals: OriginalStore) -> KafkaMessage:
    """A message to be kept as a dead letter, with the value that was put aside: as a raw one, whatever it was.

    What an envelope declares beside its content comes as headers; the message's own count more, as they did in it.
    """
    place = originals.locate(landed.frame_id) if landed.fault is None and message.value is None else None
    if place is None or landed.message is None:
        return message
    known = {key for key, content in message.headers if content is not None}
    declared = {key: text for key, text in landed.message.declared if key not in known}
    outgoing = write_raw(place.read_bytes(), landed.path.name, declared)
    return replace(message, value=outgoing.value, headers=(*message.headers, *outgoing.headers))
