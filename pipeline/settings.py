"""Everything that can be set, read once at the edge and passed on as frozen values.

Order of precedence: command-line options, environment (`ODDFRAME_SEARCH__BUDGET=0.02`), then
`oddframe.toml` in the home directory, then the defaults below.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from pipeline.errors import UsageError
from pipeline.sections import (
    ArchiveSettings,
    BatchSettings,
    CatalogSettings,
    DecodeSettings,
    EmbedSettings,
    KafkaSettings,
    MaintainSettings,
    MilvusSettings,
    PrestoSettings,
    PromoteSettings,
    SearchSettings,
    Section,
    SkySettings,
    StackSettings,
    StoreSettings,
)

_PREFIX = "ODDFRAME_"
# Set for Prefect's deployments and for the tests; no settings.
_OTHER_VARIABLES = frozenset({"ODDFRAME_SPOOL", "ODDFRAME_TEST_DATA", "ODDFRAME_TEST_STACK"})


class Settings(BaseSettings):
    """All settings of one oddframe home."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", env_ignore_empty=True
    )

    home: Annotated[Path, Field(description="Where all state of the embedded profile lives")] = Path(".oddframe")
    profile: Annotated[Literal["embedded", "full"], Field(description="Which services are used")] = "embedded"
    lock_seconds: Annotated[
        float, Field(ge=0.0, le=86_400.0, description="Longest wait for a home that another process has open")
    ] = 0.0
    decode: DecodeSettings = DecodeSettings()
    sky: SkySettings = SkySettings()
    embed: EmbedSettings = EmbedSettings()
    search: SearchSettings = SearchSettings()
    promote: PromoteSettings = PromoteSettings()
    batch: BatchSettings = BatchSettings()
    archive: ArchiveSettings = ArchiveSettings()
    maintain: MaintainSettings = MaintainSettings()
    stores: StoreSettings = StoreSettings()
    catalog: CatalogSettings = CatalogSettings()
    presto: PrestoSettings = PrestoSettings()
    milvus: MilvusSettings = MilvusSettings()
    kafka: KafkaSettings = KafkaSettings()
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
        if isinstance(field.default, Section):
            yield from (f"{name}.{key}" for key in type(field.default).model_fields)


def _suggest(name: str, show: Callable[[str], str] = str) -> str:
    # Also by the last part alone: the section may be what was forgotten.
    known = {part: whole for whole in _list_settings() for part in (whole.rpartition(".")[2], whole)}
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {show(known[near[0]])}?" if near else "; docs/settings.md lists those there are"


def _to_variable(name: str) -> str:
    return _PREFIX + name.upper().replace(".", "__")
