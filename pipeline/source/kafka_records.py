r"""A consumer that reads every record: kafka-python 3.0.12 stops for ever at a header whose key is not UTF-8.

Clients in C may send one, and a broker takes it. Such a key comes with its odd bytes spelt out, `FILT\xcb`.
"""

from __future__ import annotations

from typing import Any

from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import decode_varint

from pipeline.source.connection import KafkaConnection, open_client


def open_consumer(connection: KafkaConnection, **options: Any) -> KafkaConsumer:
    """A consumer of whole transactions that commits nothing by itself and begins where a log does.

    Args:
        connection: the cluster.
        options: the library's own, besides.

    Raises:
        UsageError: as in `open_client`.
        TransientError: as in `open_client`.
    """
    consumer = open_client(
        KafkaConsumer,
        connection,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        allow_auto_create_topics=False,
        **options,
    )
    # Of this consumer alone; the library has no other way to say how a record is read.
    consumer._fetcher.PartitionRecords = _PartitionRecords  # noqa: SLF001
    return consumer


class _PartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    def _unpack_records(self, partition: Any, records: Any, *deserializers: Any) -> Any:
        return super()._unpack_records(partition, _Batches(records), *deserializers)


class _Batches:
    """Batches as they come, those that may have headers read by `_Batch`."""

    def __init__(self, records: Any) -> None:
        self._records = records

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        if isinstance(batch, DefaultRecordBatch):
            # Another object would copy the bytes, megabytes of them.
            batch.__class__ = _Batch
        return batch


class _Batch(DefaultRecordBatch):  # type: ignore[misc]
    __slots__ = ()

    def _read_msg(self) -> Any:
        try:
            return super()._read_msg()
        except UnicodeDecodeError:
            return self._read_spelt_out()

    def _read_spelt_out(self) -> Any:
        """The record once more, alone; where it begins is known still."""
        batch: Any = self
        whole, begin = batch._buffer, batch._pos  # noqa: SLF001 - its own, that the type checker does not know
        length, body = decode_varint(whole, begin)
        batch._buffer, batch._pos = _Text(whole[begin : body + length]), 0  # noqa: SLF001
        try:
            return super()._read_msg()
        finally:
            batch._buffer, batch._pos = whole, body + length  # noqa: SLF001


class _Text(bytearray):
    """Bytes whose parts can always be decoded."""

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return _Text(part) if isinstance(index, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)
