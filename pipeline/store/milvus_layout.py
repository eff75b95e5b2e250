"""How vectors lie in Milvus: names, schema and rows, the same for Milvus Lite and a server."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np
from pymilvus import CollectionSchema, DataType, MilvusClient

from pipeline.errors import StoreError
from pipeline.ports import VectorEntity, VectorSpec
from pipeline.store.filters import LONGEST_TEXT, UNKNOWN_NUMBER, UNKNOWN_ZONE, fit_text, to_epoch

COLLECTION_PREFIX = "oddframe_"
FRAMES_PARTITION = "frames"
# Milvus allows 1,024 partitions of a collection; cells share this many by hash, so any number of cells fits.
_REFERENCE_BUCKETS = 128
_BUCKET_PREFIX = "cell_"
_REFERENCE_MARK = "/reference/"


def name_collection(spec: VectorSpec) -> str:
    """Name of the collection that holds this spec and no other."""
    return COLLECTION_PREFIX + re.sub(r"\W", "_", spec.key)


def name_reference(frame_id: str, reference_set: str) -> str:
    """Primary key of a frame's entity as a reference of one set."""
    return frame_id + _mark_of(reference_set)


def read_reference(key: str, reference_set: str) -> str | None:
    """Frame id of a key of the set's references; None where it is no such key."""
    mark = _mark_of(reference_set)
    return key.removesuffix(mark) if key.endswith(mark) else None


def is_frame(key: str) -> bool:
    """Whether a key is a frame's own, not that of a reference of any set."""
    return _REFERENCE_MARK not in key


def _mark_of(reference_set: str) -> str:
    # A name may be any text, a key is short.
    return _REFERENCE_MARK + hashlib.sha256(reference_set.encode()).hexdigest()[:16]


def name_partition(instrument: str | None, filter_band: str | None, zone: int | None) -> str:
    """Partition of the references of one cell; cells share partitions by hash."""
    cell = f"{fit_text(instrument)}\x00{fit_text(filter_band)}\x00{zone if zone is not None else UNKNOWN_ZONE}"
    return f"{_BUCKET_PREFIX}{int(hashlib.sha256(cell.encode()).hexdigest()[:8], 16) % _REFERENCE_BUCKETS:03d}"


def is_reference_partition(partition: str) -> bool:
    """Whether a partition holds references."""
    return partition.startswith(_BUCKET_PREFIX)


def create_collection(client: MilvusClient, spec: VectorSpec) -> None:
    """Create the collection of a spec with its exact (FLAT) index."""
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name_collection(spec), schema=build_schema(spec.dimension), index_params=index)


def check_collection(client: MilvusClient, collection: str) -> None:
    """Refuse a collection that another version of oddframe made.

    Raises:
        StoreError: its fields are not those of `build_schema`.
    """
    held = {field["name"] for field in client.describe_collection(collection)["fields"]}
    if odd := sorted(held ^ {field.name for field in build_schema(1).fields}):
        raise StoreError(
            f"another version of oddframe made the vector collection {collection} (it differs in {', '.join(odd)}); "
            "remove vectors.db in the home (on a server: the collection) and run `oddframe verify --repair`"
        )


def build_schema(dimension: int) -> CollectionSchema:
    """The fields of every collection."""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=128)
    schema.add_field("frame_id", DataType.VARCHAR, max_length=64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
    schema.add_field("is_reference", DataType.BOOL)
    schema.add_field("reference_set", DataType.VARCHAR, max_length=LONGEST_TEXT)
    schema.add_field("instrument", DataType.VARCHAR, max_length=LONGEST_TEXT)
    schema.add_field("filter", DataType.VARCHAR, max_length=LONGEST_TEXT)
    schema.add_field("zone", DataType.INT64)
    schema.add_field("exposure_s", DataType.DOUBLE)
    schema.add_field("obs_time", DataType.INT64)
    schema.add_field("embedding", DataType.VARCHAR, max_length=128)
    schema.add_field("model", DataType.VARCHAR, max_length=LONGEST_TEXT)
    # For filters on what was judged; nothing writes them back yet.
    schema.add_field("label", DataType.VARCHAR, max_length=64)
    schema.add_field("score", DataType.DOUBLE)
    return schema


def read_zone(kept: int) -> int | None:
    """The zone of a row; None for unknown."""
    return None if kept == UNKNOWN_ZONE else int(kept)


def to_row(spec: VectorSpec, entity: VectorEntity, reference_set: str | None = None) -> dict[str, Any]:
    """The entity as Milvus keeps it, as a frame or as a reference of a set.

    Raises:
        StoreError: the vector is not of the spec's length, or holds NaN or infinity, which Milvus Lite would accept.
    """
    if entity.vector.shape != (spec.dimension,):
        raise StoreError(
            f"the vector of frame {entity.frame_id} has shape {entity.vector.shape}, {spec.key} has {spec.dimension}"
        )
    if not np.isfinite(entity.vector).all():
        raise StoreError(f"the vector of frame {entity.frame_id} holds values that are not finite numbers")
    return {
        "id": entity.frame_id if reference_set is None else name_reference(entity.frame_id, reference_set),
        "frame_id": entity.frame_id,
        "vector": np.ascontiguousarray(entity.vector, dtype=np.float32),
        "is_reference": reference_set is not None,
        "reference_set": fit_text(reference_set),
        "instrument": fit_text(entity.instrument),
        "filter": fit_text(entity.filter),
        "zone": UNKNOWN_ZONE if entity.zone is None else entity.zone,
        "exposure_s": UNKNOWN_NUMBER if entity.exposure_s is None else entity.exposure_s,
        "obs_time": to_epoch(entity.obs_time),
        "embedding": spec.key,
        "model": fit_text(entity.model),
        "label": "",
        "score": UNKNOWN_NUMBER,
    }
