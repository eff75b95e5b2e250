"""Writes docs/settings.md from the settings themselves, so that it stays true: `python docs/generate.py`."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pipeline.settings import Settings

_HEAD = """# Settings

Made by `docs/generate.py` from `pipeline/settings.py`. In `oddframe.toml` a setting stands under its section; in the
environment it is `ODDFRAME_<SECTION>__<NAME>`.

| setting | default | meaning |
|---|---|---|
"""


def render_settings() -> str:
    """The page, as text."""
    lines = []
    for name, field in Settings.model_fields.items():
        section = field.default
        if isinstance(section, BaseModel):
            lines += [
                _line(f"{name}.{key}", inner.default, inner.description)
                for key, inner in type(section).model_fields.items()
            ]
        else:
            lines.append(_line(name, field.default, field.description))
    return _HEAD + "\n".join(lines) + "\n"


def _line(name: str, default: object, description: str | None) -> str:
    shown = "" if default is PydanticUndefined else default
    # The number of processors is the machine's, not a constant to print.
    if name == "decode.workers":
        shown = "one per processor"
    return f"| `{name}` | `{shown}` | {description or ''} |"


if __name__ == "__main__":
    Path(__file__).with_name("settings.md").write_text(render_settings(), encoding="utf-8")
