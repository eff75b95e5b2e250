"""Everything that can be set, read once at the edge and passed on as frozen values.

Order of precedence: command-line options, environment (`ODDFRAME_SEARCH__BUDGET=0.02`), then
`oddframe.toml` in the home directory, then the defaults below.
"""

from __future__ import annotations

import os
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from pipeline.errors import UsageError

# Milvus holds no longer vectors.
_LONGEST_VECTOR = 32_768
_Side = Annotated[int, Field(ge=1, le=_LONGEST_VECTOR)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DecodeSettings(_Section):
    """What one frame may cost before it is refused."""

    max_bytes: Annotated[int, Field(gt=0, description="Largest file or message, bytes")] = 256 * 2**20
    max_unpacked_bytes: Annotated[int, Field(gt=0, description="Largest size after decompression, bytes")] = 2**30
    max_pixels: Annotated[int, Field(gt=0, description="Largest image, pixels")] = 120_000_000
    seconds: Annotated[float, Field(gt=0, description="Time limit to decode, describe and embed one frame")] = 60.0
    memory_mb: Annotated[int, Field(ge=512, description="Memory limit of one worker process, MiB")] = 4096
    workers: Annotated[int, Field(ge=1, description="Worker processes")] = max(1, os.cpu_count() or 1)


class SkySettings(_Section):
    """How positions become prefilter zones."""

    zone_order: Annotated[int, Field(ge=0, le=8, description="HEALPix order of a zone; 6 is 55 arcmin")] = 6
    pointing_radius_deg: Annotated[
        float, Field(gt=0, le=30, description="Reach of a frame whose footprint is unknown, degrees")
    ] = 0.5


class EmbedSettings(_Section):
    """What is flattened."""

    pixels_shape: Annotated[tuple[_Side, _Side], Field(description="Rows and columns of the `pixels` grid")] = (32, 32)

    @field_validator("pixels_shape")
    @classmethod
    def _fit_a_vector(cls, shape: tuple[int, int]) -> tuple[int, int]:
        if shape[0] * shape[1] > _LONGEST_VECTOR:
            raise ValueError(f"{shape[0]} x {shape[1]} cells are more than the {_LONGEST_VECTOR} a vector may have")
        return shape


class SearchSettings(_Section):
    """How a frame is compared with its references and when it is called odd."""

    budget: Annotated[float, Field(gt=0, lt=0.5, description="False-alarm budget: share of normal frames flagged")] = (
        0.01
    )
    neighbours: Annotated[int, Field(ge=1, le=100, description="Nearest references kept with a verdict")] = 3
    min_references: Annotated[int, Field(ge=3, description="Fewer than this in a cell: no_reference")] = 5
    exposure_factor: Annotated[float, Field(ge=1, description="Exposures within this factor are comparable")] = 2.0
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


class BatchSettings(_Section):
    """Micro-batches: how many frames one commit covers."""

    frames: Annotated[int, Field(ge=1, le=10_000, description="Most frames in one commit while following")] = 64
    bulk_frames: Annotated[int, Field(ge=1, le=10_000, description="Most frames in one commit while catching up")] = 512
    seconds: Annotated[float, Field(gt=0, description="Longest wait for a batch to fill while following")] = 5.0


class ArchiveSettings(_Section):
    """Where originals go when they grow old."""

    root: Annotated[Path | None, Field(description="Archive warehouse; default HOME/archive")] = None
    after_days: Annotated[float, Field(ge=0, description="Move originals older than this")] = 30.0
    keep_snapshots_days: Annotated[float, Field(ge=0, description="Expire table snapshots older than this")] = 7.0
    orphan_age_hours: Annotated[float, Field(ge=1, description="Never delete unreferenced files younger")] = 24.0


class Settings(BaseSettings):
    """All settings of one oddframe home."""

    model_config = SettingsConfigDict(
        env_prefix="ODDFRAME_", env_nested_delimiter="__", frozen=True, extra="forbid", env_ignore_empty=True
    )

    home: Annotated[Path, Field(description="Where all state of the embedded profile lives")] = Path(".oddframe")
    profile: Annotated[Literal["embedded"], Field(description="Which services are used")] = "embedded"
    decode: DecodeSettings = DecodeSettings()
    sky: SkySettings = SkySettings()
    embed: EmbedSettings = EmbedSettings()
    search: SearchSettings = SearchSettings()
    batch: BatchSettings = BatchSettings()
    archive: ArchiveSettings = ArchiveSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment over the constructor's values: those come from the settings file."""
        del settings_cls, dotenv_settings, file_secret_settings
        return (env_settings, init_settings)


def load_settings(home: Path | None = None) -> Settings:
    """Read the settings once.

    Args:
        home: overrides `ODDFRAME_HOME`.

    Raises:
        UsageError: a value cannot be used; the text names it and says where it came from.
    """
    chosen = home or Path(os.environ.get("ODDFRAME_HOME") or ".oddframe")
    file = chosen / "oddframe.toml"
    values: dict[str, Any] = {}
    if file.is_file():
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} is not valid TOML: {error}; mend or remove it") from error
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    try:
        settings = Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"setting {place}: {first['msg']} (from {file} or ODDFRAME_* variables)") from error
    except SettingsError as error:
        raise UsageError(f"ODDFRAME_* variables: {error}; write lists and sections as JSON") from error
    return settings.model_copy(update={"home": chosen.absolute()})
