"""Everything that can be set, read once at the edge and passed on as frozen values.

Order of precedence: command-line options, environment (`ODDFRAME_SEARCH__BUDGET=0.02`), then
`oddframe.toml` in the home directory, then the defaults below.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from pipeline.errors import UsageError

# Milvus holds no longer vectors.
_LONGEST_VECTOR = 32_768
_Side = Annotated[int, Field(ge=1, le=_LONGEST_VECTOR)]
_PREFIX = "ODDFRAME_"
# Set for Prefect's deployments and for the tests; no settings.
_OTHER_VARIABLES = frozenset({"ODDFRAME_SPOOL", "ODDFRAME_TEST_DATA", "ODDFRAME_TEST_STACK"})
# What is beyond these no machine has, and the calls that take them refuse it.
_MOST_MEMORY_MB, _MOST_WORKERS, _MOST_FACTOR = 2**30, 1024, 1e6
# A century: the calendar ends where more is taken from today.
_MOST_DAYS = 36_500


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DecodeSettings(_Section):
    """What one frame may cost before it is refused."""

    max_bytes: Annotated[int, Field(gt=0, description="Largest file or message, bytes")] = 256 * 2**20
    max_unpacked_bytes: Annotated[int, Field(gt=0, description="Largest size after decompression, bytes")] = 2**30
    max_pixels: Annotated[int, Field(gt=0, description="Largest image, pixels")] = 120_000_000
    seconds: Annotated[float, Field(gt=0, description="Time limit to decode, describe and embed one frame")] = 60.0
    memory_mb: Annotated[
        int, Field(ge=512, le=_MOST_MEMORY_MB, description="Memory limit of one worker process, MiB")
    ] = 4096
    workers: Annotated[int, Field(ge=1, le=_MOST_WORKERS, description="Worker processes")] = max(1, os.cpu_count() or 1)


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


class BatchSettings(_Section):
    """Micro-batches: how many frames one commit covers."""

    frames: Annotated[int, Field(ge=1, le=10_000, description="Most frames in one commit while following")] = 64
    bulk_frames: Annotated[int, Field(ge=1, le=10_000, description="Most frames in one commit while catching up")] = 512
    seconds: Annotated[float, Field(gt=0, description="Longest wait for a batch to fill while following")] = 5.0


class ArchiveSettings(_Section):
    """Where originals go when they grow old."""

    root: Annotated[Path | None, Field(description="Archive warehouse; default HOME/archive")] = None
    after_days: Annotated[float, Field(ge=0, le=_MOST_DAYS, description="Move originals older than this")] = 30.0
    keep_snapshots_days: Annotated[
        float, Field(ge=0, le=_MOST_DAYS, description="Expire table snapshots older than this")
    ] = 7.0
    orphan_age_hours: Annotated[
        float, Field(ge=1, le=24 * _MOST_DAYS, description="Never delete unreferenced files younger")
    ] = 24.0


class StackSettings(_Section):
    """Where the services of this machine are: what `oddframe stack` starts, and what the full profile uses."""

    first_port: Annotated[int, Field(ge=1024, le=65_000, description="They listen on this port and the next ones")] = (
        19_300
    )
    data: Annotated[Path | None, Field(description="All their state; default HOME/stack")] = None
    cache: Annotated[Path | None, Field(description="What was downloaded; default ~/.cache/oddframe/stack")] = None


class Settings(BaseSettings):
    """All settings of one oddframe home."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", env_ignore_empty=True
    )

    home: Annotated[Path, Field(description="Where all state of the embedded profile lives")] = Path(".oddframe")
    profile: Annotated[Literal["embedded"], Field(description="Which services are used")] = "embedded"
    decode: DecodeSettings = DecodeSettings()
    sky: SkySettings = SkySettings()
    embed: EmbedSettings = EmbedSettings()
    search: SearchSettings = SearchSettings()
    batch: BatchSettings = BatchSettings()
    archive: ArchiveSettings = ArchiveSettings()
    stack: StackSettings = StackSettings()

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
    _check_variables()
    chosen = home or Path(os.environ.get("ODDFRAME_HOME") or ".oddframe")
    file = chosen / "oddframe.toml"
    try:
        settings = Settings(**_read_file(file))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        said = f"there is none{_suggest(place)}" if first["type"] == "extra_forbidden" else first["msg"]
        raise UsageError(f"setting {place}: {said} (from {file} or ODDFRAME_* variables)") from error
    except SettingsError as error:
        raise UsageError(f"ODDFRAME_* variables: {error}; write lists and sections as JSON") from error
    return settings.model_copy(update={"home": chosen.absolute()})


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} is not valid TOML: {error}; mend or remove it") from error
    except (OSError, ValueError) as error:
        # A name too long, a directory that is closed to us.
        raise UsageError(f"{str(file)[:200]} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _check_variables() -> None:
    """Refuse variables that look like settings and are none, as the settings file refuses its unknown keys."""
    known = {_to_variable(name) for name in _list_settings()} | _OTHER_VARIABLES
    for variable, value in sorted(os.environ.items()):
        if value and variable.upper().startswith(_PREFIX) and variable.upper() not in known:
            name = variable.upper().removeprefix(_PREFIX).lower().replace("__", ".")
            raise UsageError(f"{variable} is no setting{_suggest(name, _to_variable)}")


def _list_settings() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        yield name
        if isinstance(field.default, _Section):
            yield from (f"{name}.{key}" for key in type(field.default).model_fields)


def _suggest(name: str, show: Callable[[str], str] = str) -> str:
    # Also by the last part alone: the section may be what was forgotten.
    known = {part: whole for whole in _list_settings() for part in (whole.rpartition(".")[2], whole)}
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {show(known[near[0]])}?" if near else "; docs/settings.md lists those there are"


def _to_variable(name: str) -> str:
    return _PREFIX + name.upper().replace(".", "__")
