"""The Iceberg tables of namespace `oddframe`: one definition, used by every catalogue.

Times are plain UTC `timestamp` (Presto 0.287 fails on any table with a zoned one). Field ids never change and are
never reused: that is what lets Iceberg evolve a table without rewriting it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import DayTransform, IdentityTransform
from pyiceberg.types import (
    BooleanType,
    DateType,
    DoubleType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
)

NAMESPACE = "oddframe"


@dataclass(frozen=True, slots=True)
class TableDefinition:
    """A table's name, schema and partitioning."""

    name: str
    schema: Schema
    partition_spec: PartitionSpec


def _table(
    name: str,
    *columns: tuple[str, IcebergType],
    required: tuple[str, ...] = (),
    partitions: tuple[tuple[str, DayTransform[int] | IdentityTransform[str]], ...] = (),
) -> TableDefinition:
    fields = [NestedField(i, column, kind, required=column in required) for i, (column, kind) in enumerate(columns, 1)]
    ids = {f.name: f.field_id for f in fields}
    spec = PartitionSpec(
        *(
            PartitionField(ids[column], 1000 + i, transform, f"{column}_{transform}")
            for i, (column, transform) in enumerate(partitions)
        )
    )
    return TableDefinition(name, Schema(*fields), spec)


def _list_of(first_id: int, element: IcebergType) -> ListType:
    return ListType(first_id, element, element_required=False)


_TEXT, _REAL, _LONG, _INT, _TIME = StringType(), DoubleType(), LongType(), IntegerType(), TimestampType()

FRAMES = _table(
    "frames",
    ("frame_id", _TEXT),
    ("name", _TEXT),
    ("obs_time", _TIME),
    ("obs_time_source", _TEXT),
    ("night", DateType()),
    ("instrument", _TEXT),
    ("telescope", _TEXT),
    ("filter", _TEXT),
    ("exposure_s", _REAL),
    ("object", _TEXT),
    ("image_type", _TEXT),
    ("ra", _REAL),
    ("dec", _REAL),
    ("pointing_source", _TEXT),
    ("radius_deg", _REAL),
    ("zone", _LONG),
    ("zones", _list_of(101, _LONG)),
    ("width", _INT),
    ("height", _INT),
    ("hdu", _INT),
    ("bitpix", _INT),
    ("background", _REAL),
    ("noise", _REAL),
    ("fwhm_px", _REAL),
    ("stars", _INT),
    ("valid_fraction", _REAL),
    ("saturated_fraction", _REAL),
    ("header", MapType(102, _TEXT, 103, _TEXT, value_required=False)),
    ("notes", _list_of(104, _TEXT)),
    ("bytes", _LONG),
    ("archive_uri", _TEXT),
    ("source_partition", _TEXT),
    ("source_offset", _LONG),
    ("ingested_at", _TIME),
    required=("frame_id",),
    partitions=(("obs_time", DayTransform()), ("instrument", IdentityTransform())),
)

DELIVERIES = _table(
    "deliveries",
    ("source_partition", _TEXT),
    ("source_offset", _LONG),
    ("name", _TEXT),
    ("frame_id", _TEXT),
    ("outcome", _TEXT),  # new | duplicate | quarantined
    ("purpose", _TEXT),  # ingest | reference
    ("bytes", _LONG),
    ("received_at", _TIME),
    required=("source_partition", "source_offset"),
)

QUARANTINE = _table(
    "quarantine",
    ("frame_id", _TEXT),
    ("name", _TEXT),
    ("code", _TEXT),
    ("reason", _TEXT),
    ("event", _TEXT),  # quarantined | redriven
    ("bytes", _LONG),
    ("archive_uri", _TEXT),
    ("source_partition", _TEXT),
    ("source_offset", _LONG),
    ("at", _TIME),
    required=("frame_id",),
)

VERDICTS = _table(
    "verdicts",
    ("verdict_id", _TEXT),
    ("frame_id", _TEXT),
    ("name", _TEXT),
    ("judged_at", _TIME),
    ("obs_time", _TIME),
    ("night", DateType()),
    ("instrument", _TEXT),
    ("filter", _TEXT),
    ("zone", _LONG),
    ("status", _TEXT),  # normal | anomaly | no_reference | not_searched | unreadable
    ("distance", _REAL),  # L2 to the nearest reference: the root, never the square
    ("p_value", _REAL),
    ("extrapolated", BooleanType()),
    ("sigma", _REAL),
    ("threshold", _REAL),  # the distance at which p_value meets the budget
    ("budget", _REAL),
    ("tier", _TEXT),
    ("reason", _TEXT),
    (
        "neighbours",
        _list_of(
            101,
            StructType(
                NestedField(102, "frame_id", _TEXT, required=False),
                NestedField(103, "name", _TEXT, required=False),
                NestedField(104, "distance", _REAL, required=False),
            ),
        ),
    ),
    ("embedding", _TEXT),
    ("embedding_version", _TEXT),
    ("reference_set", _TEXT),
    ("reference_snapshot_id", _LONG),
    ("references_in_cell", _INT),
    ("prefilter", _TEXT),  # JSON of the typed prefilter, for replay
    ("models", MapType(105, _TEXT, 106, _TEXT, value_required=False)),
    ("code_version", _TEXT),
    ("source_partition", _TEXT),
    ("source_offset", _LONG),
    required=("verdict_id", "frame_id"),
    partitions=(("judged_at", DayTransform()),),
)

DETECTIONS = _table(
    "detections",
    ("verdict_id", _TEXT),
    ("frame_id", _TEXT),
    ("x", _REAL),  # 0-based pixel, centre of the first pixel is 0
    ("y", _REAL),
    ("ra", _REAL),
    ("dec", _REAL),
    ("sigma", _REAL),
    ("kind", _TEXT),
    ("size_px", _REAL),
    ("angle_deg", _REAL),
    ("judged_at", _TIME),
    required=("verdict_id", "frame_id"),
    partitions=(("judged_at", DayTransform()),),
)

REFERENCE_MEMBERS = _table(
    "reference_members",
    ("reference_set", _TEXT),
    ("frame_id", _TEXT),
    ("name", _TEXT),
    ("embedding", _TEXT),  # name and version, e.g. pixels@1-32x32
    ("action", _TEXT),  # add | remove
    ("at", _TIME),
    ("by", _TEXT),
    ("why", _TEXT),
    required=("reference_set", "frame_id"),
)

MODELS = _table(
    "models",
    ("model", _TEXT),  # sha256 of the artefact
    ("kind", _TEXT),  # residual: reference model of a field
    ("version", _TEXT),  # of the embedding
    ("event", _TEXT),  # learnt | retired
    ("at", _TIME),
    ("reference_set", _TEXT),
    ("reference_snapshot_id", _LONG),  # of reference_members, that it was learnt from
    ("instrument", _TEXT),
    ("filter", _TEXT),
    ("exposure_s", _REAL),
    ("ra", _REAL),
    ("dec", _REAL),
    ("radius_deg", _REAL),
    ("members", _list_of(101, _TEXT)),  # frame ids, in the order of its vectors
    ("registered", _list_of(102, _TEXT)),  # those of them that frames are compared with
    ("odd", _list_of(109, _TEXT)),  # those of them that the others would flag
    ("left_out", _list_of(103, _TEXT)),  # references of the field that it does without
    ("anchor", MapType(104, _TEXT, 105, _TEXT, value_required=False)),  # WCS cards of one member
    ("to_stack", _list_of(106, _REAL)),  # affine map from that member to the stack
    ("metrics", MapType(107, _TEXT, 108, _TEXT, value_required=False)),
    ("bytes", _LONG),
    ("uri", _TEXT),
    ("code_version", _TEXT),
    required=("model",),
)

SENSITIVITY = _table(
    "sensitivity",
    ("night", DateType()),
    ("at", _TIME),
    ("reference_set", _TEXT),
    ("instrument", _TEXT),
    ("filter", _TEXT),
    ("ra", _REAL),
    ("dec", _REAL),
    ("model", _TEXT),  # sha256 of the reference model
    ("kind", _TEXT),  # point | streak
    ("snr", _REAL),  # of what was injected, matched filter
    ("flux", _REAL),  # the same in units of the frames, median
    ("trials", _INT),
    ("found", _INT),  # flagged
    ("located", _INT),  # listed at its place
    ("recall", _REAL),
    ("recall_low", _REAL),  # 95 percent interval
    ("recall_high", _REAL),
    ("snr_50", _REAL),  # at which half is found, null where the ladder does not say
    ("snr_90", _REAL),
    ("budget", _REAL),
    ("code_version", _TEXT),
    required=("model",),
)

EVALUATIONS = _table(
    "evaluations",
    ("at", _TIME),
    ("protocol", _TEXT),  # paired | kinds | unpaired | series | masks | clouds | simulated
    ("folder", _TEXT),
    ("spec", _TEXT),
    ("kind", _TEXT),
    ("metric", _TEXT),
    ("value", _REAL),  # null where it cannot be told
    ("low", _REAL),  # ends of the 95 percent interval over objects
    ("high", _REAL),
    ("n_objects", _INT),
    ("note", _TEXT),
    ("code_version", _TEXT),
    required=("protocol", "folder", "spec", "metric"),
)

TABLES: tuple[TableDefinition, ...] = (
    FRAMES,
    DELIVERIES,
    QUARANTINE,
    VERDICTS,
    DETECTIONS,
    REFERENCE_MEMBERS,
    MODELS,
    SENSITIVITY,
    EVALUATIONS,
)
