"""The sections of the settings: what each value means, its default and its limits."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

# Milvus holds no longer vectors.
_LONGEST_VECTOR = 32_768
_Side = Annotated[int, Field(ge=1, le=_LONGEST_VECTOR)]
# What is beyond these no machine has, and the calls that take them refuse it.
_MOST_MEMORY_MB, _MOST_WORKERS, _MOST_FACTOR = 2**30, 1024, 1e6
# A century: the calendar ends where more is taken from today.
_MOST_DAYS = 36_500


class Section(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DecodeSettings(Section):
    """What one frame may cost before it is refused."""

    max_bytes: Annotated[int, Field(gt=0, description="Largest file or message, bytes")] = 256 * 2**20
    max_unpacked_bytes: Annotated[int, Field(gt=0, description="Largest size after decompression, bytes")] = 2**30
    max_pixels: Annotated[int, Field(gt=0, description="Largest image, pixels")] = 120_000_000
    seconds: Annotated[float, Field(gt=0, description="Time limit to decode, describe and embed one frame")] = 60.0
    memory_mb: Annotated[
        int, Field(ge=512, le=_MOST_MEMORY_MB, description="Memory limit of one worker process, MiB")
    ] = 4096
    workers: Annotated[int, Field(ge=1, le=_MOST_WORKERS, description="Worker processes")] = max(1, os.cpu_count() or 1)


class SkySettings(Section):
    """How positions become prefilter zones."""

    zone_order: Annotated[int, Field(ge=0, le=8, description="HEALPix order of a zone; 6 is 55 arcmin")] = 6
    pointing_radius_deg: Annotated[
        float, Field(gt=0, le=30, description="Reach of a frame whose footprint is unknown, degrees")
    ] = 0.5


class EmbedSettings(Section):
    """What is flattened."""

    pixels_shape: Annotated[tuple[_Side, _Side], Field(description="Rows and columns of the `pixels` grid")] = (32, 32)
    residual: Annotated[
        bool, Field(description="Learn a model of each field and compare frames with it; off: pixels alone")
    ] = True
    leave_out_bad: Annotated[
        bool, Field(description="Learn without those references that the others of their field would flag")
    ] = False
    model_root: Annotated[
        Path | None,
        Field(description="Where models are kept, shared by those who share the tables; default HOME/models"),
    ] = None

    @field_validator("pixels_shape")
    @classmethod
    def _fit_a_vector(cls, shape: tuple[int, int]) -> tuple[int, int]:
        if shape[0] * shape[1] > _LONGEST_VECTOR:
            raise ValueError(f"{shape[0]} x {shape[1]} cells are more than the {_LONGEST_VECTOR} a vector may have")
        return shape


class SearchSettings(Section):
    """How a frame is compared with its references and when it is called odd."""

    budget: Annotated[float, Field(gt=0, lt=0.5, description="False-alarm budget: share of normal frames flagged")] = (
        0.01
    )
    neighbours: Annotated[int, Field(ge=1, le=100, description="Nearest references kept with a verdict")] = 3
    min_references: Annotated[
        int,
        Field(
            ge=3,
            description="Fewer than this in a cell: calibrated by references elsewhere on the sky, where the cell has "
            "two and elsewhere are twice as many as this; else no_reference",
        ),
    ] = 5
    exposure_factor: Annotated[
        float, Field(ge=1, le=_MOST_FACTOR, description="Exposures within this factor are comparable")
    ] = 2.0
    obs_after: Annotated[datetime | None, Field(description="Ignore references observed before this (UTC)")] = None
    obs_before: Annotated[datetime | None, Field(description="Ignore references observed after this (UTC)")] = None
    eligibility_file: Annotated[Path | None, Field(description="Rules that keep a frame from being searched")] = None
    reference_set: Annotated[str, Field(pattern=r"\S", description="Name of the reference repository in use")] = (
        "default"
    )

    @field_validator("obs_after", "obs_before")
    @classmethod
    def _to_naive_utc(cls, moment: datetime | None) -> datetime | None:
        return moment if moment is None or moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


class PromoteSettings(Section):
    """What it takes to become a reference by rule, where `reference promote` is run."""

    days: Annotated[float, Field(ge=0, le=_MOST_DAYS, description="Observed at least this long ago")] = 30.0
    most: Annotated[int, Field(ge=1, description="A cell with this many references gets no more")] = 50
    p: Annotated[float, Field(ge=0, le=1, description="Every newest verdict has at least this p-value")] = 0.2


class BatchSettings(Section):
    """Micro-batches: how many frames one commit covers."""

    frames: Annotated[int, Field(ge=1, le=10_000, description="Most frames in one commit while following")] = 64
    bulk_frames: Annotated[int, Field(ge=1, le=10_000, description="Most frames in one commit while catching up")] = 512
    bulk_bytes: Annotated[int, Field(ge=1, description="About as many bytes of a topic's frames in one commit")] = 2**29
    seconds: Annotated[float, Field(gt=0, description="Longest wait for a batch to fill while following")] = 5.0


class ArchiveSettings(Section):
    """Where originals go when they grow old."""

    root: Annotated[Path | None, Field(description="Archive warehouse; default HOME/archive")] = None
    s3_uri: Annotated[
        str | None,
        Field(
            pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_=-][A-Za-z0-9_=.-]*)*/?$",
            description="s3://bucket/prefix: the archive, instead of a directory",
        ),
    ] = None
    s3_endpoint: Annotated[
        str | None,
        Field(pattern=r"^https?://[^/?#@\s]+/?$", description="Address of the S3 service; default: Amazon's"),
    ] = None
    s3_region: Annotated[
        str | None, Field(pattern=r"^[A-Za-z0-9-]+$", description="Its region; default: as the AWS environment says")
    ] = None
    s3_access_key: Annotated[
        str | None, Field(pattern=r"^\S+$", description="Default: as the AWS environment says")
    ] = None
    s3_secret_key: Annotated[SecretStr | None, Field(description="With the access key")] = None
    s3_cache_bytes: Annotated[
        int, Field(gt=0, description="Archived originals kept in HOME/fetched once they were read, bytes")
    ] = 4 * 2**30
    after_days: Annotated[float, Field(ge=0, le=_MOST_DAYS, description="Move originals older than this")] = 30.0

    @model_validator(mode="after")
    def _name_one_place(self) -> Self:
        if self.s3_uri is not None and self.root is not None:
            raise ValueError("root and s3_uri are both set; take one of them away")
        if (self.s3_access_key is None) != (self.s3_secret_key is None):
            raise ValueError("s3_access_key and s3_secret_key go together; set both or neither")
        return self


class MaintainSettings(Section):
    """When tables and vectors are tidied, and what of them is kept."""

    keep_snapshots_days: Annotated[
        float,
        Field(
            ge=0,
            le=_MOST_DAYS,
            description="Time travel reaches back so far, where `keep_snapshots` are enough for it; pins stay",
        ),
    ] = 7.0
    keep_snapshots: Annotated[
        int,
        Field(ge=1, le=1_000_000, description="Of a table, beside those of the last hour; each commit writes them all"),
    ] = 2_000
    orphan_age_hours: Annotated[
        float,
        Field(ge=1, le=24 * _MOST_DAYS, description="Unreferenced files younger than this may be a commit in progress"),
    ] = 24.0
    small_file_mb: Annotated[int, Field(ge=1, le=1024, description="Data files below this are small, MiB")] = 32
    small_files: Annotated[
        int, Field(ge=1, le=100_000, description="A partition with more small files than this has them merged")
    ] = 8
    vector_seconds: Annotated[
        float, Field(ge=0, le=86_400, description="Longest wait for a Milvus server to compact")
    ] = 300.0


class StoreSettings(Section):
    """Which services hold what; where nothing is said the profile decides."""

    frames: Annotated[
        Literal["spool", "kafka"] | None, Field(description="Where frames come from; embedded: spool, full: kafka")
    ] = None
    tables: Annotated[
        Literal["sqlite", "rest"] | None, Field(description="Catalogue of the tables; embedded: sqlite, full: rest")
    ] = None
    vectors: Annotated[
        Literal["lite", "server"] | None, Field(description="Milvus Lite or a server; embedded: lite, full: server")
    ] = None
    sql: Annotated[
        Literal["duckdb", "presto"] | None, Field(description="Who answers SQL; embedded: duckdb, full: presto")
    ] = None
    namespace: Annotated[
        str,
        Field(
            pattern=r"^[a-z][a-z0-9_]{0,62}$",
            description="Iceberg namespace, Presto schema and Milvus database: what has one is a lake of its own",
        ),
    ] = "oddframe"


class CatalogSettings(Section):
    """The Iceberg REST catalogue."""

    uri: Annotated[str | None, Field(description="Its address; default: that of the local stack")] = None
    warehouse: Annotated[str | None, Field(description="Name or place of the warehouse, as the catalogue knows it")] = (
        None
    )
    s3_endpoint: Annotated[
        str | None,
        Field(
            pattern=r"^https?://[^/?#\s]+/?$",
            description="Address of the S3 service of the warehouse, where the catalogue does not say it; "
            "keys: the catalogue's, or as the AWS environment says",
        ),
    ] = None
    s3_region: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9-]+$", description="Its region, with an address of the service")
    ] = "us-east-1"


class PrestoSettings(Section):
    """The Presto coordinator."""

    uri: Annotated[
        str | None,
        Field(pattern=r"^https?://[^/?#]+$", description="Its address; default: that of the local stack"),
    ] = None
    user: Annotated[str, Field(pattern=r"^\S+$", description="The name that statements run under")] = "oddframe"
    catalog: Annotated[
        str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="The Presto catalogue that reads the Iceberg one")
    ] = "lake"
    seconds: Annotated[float, Field(gt=0, description="A statement is stopped after this long")] = 60.0


class MilvusSettings(Section):
    """The Milvus server."""

    uri: Annotated[str | None, Field(description="Its address; default: that of the local stack")] = None
    token: Annotated[SecretStr, Field(description="user:password, where the server asks for one")] = SecretStr("")


class KafkaSettings(Section):
    """The Kafka cluster, and the topic that frames come in."""

    bootstrap: Annotated[
        str | None, Field(description="host:port, more of them after commas; default: the local stack's")
    ] = None
    protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], Field(description="How it is talked to")
    ] = "PLAINTEXT"
    mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None, Field(description="With SASL")] = (
        None
    )
    user: Annotated[str | None, Field(description="With SASL")] = None
    password: Annotated[SecretStr | None, Field(description="With SASL")] = None
    ca_file: Annotated[Path | None, Field(description="Certificates to trust instead of the system's, PEM")] = None
    topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,240}$", description="The topic of frames")] = "frames"
    partitions: Annotated[
        int, Field(ge=1, le=10_000, description="Of a topic that is made because it is not there")
    ] = 4
    group: Annotated[str, Field(pattern=r"^\S+$", description="Readers of one group share the topic's partitions")] = (
        "oddframe"
    )
    claim_roots: Annotated[
        tuple[Path, ...], Field(description="Directories that claim checks may point into; none: claim_directory alone")
    ] = ()
    claim_directory: Annotated[
        Path | None, Field(description="Where `produce` keeps claimed files; default HOME/claims")
    ] = None
    claim_above: Annotated[int, Field(gt=0, description="`produce` sends larger files as claim checks, bytes")] = (
        8 * 2**20
    )
    poll_bytes: Annotated[int, Field(gt=0, description="Most bytes of messages in memory, about")] = 128 * 2**20
    session_seconds: Annotated[float, Field(ge=6, le=300, description="A killed reader is missed after this long")] = (
        10.0
    )


class StackSettings(Section):
    """Where the services of this machine are: what `oddframe stack` starts, and what the full profile uses."""

    first_port: Annotated[int, Field(ge=1024, le=65_000, description="They listen on this port and the next ones")] = (
        19_300
    )
    data: Annotated[Path | None, Field(description="All their state; default HOME/stack")] = None
    password: Annotated[
        SecretStr | None,
        Field(
            min_length=6,
            max_length=72,
            description="Prefect (user oddframe) and Milvus (root) ask for it; none: whoever reaches them may use them",
        ),
    ] = None
    cache: Annotated[Path | None, Field(description="What was downloaded; default ~/.cache/oddframe/stack")] = None
