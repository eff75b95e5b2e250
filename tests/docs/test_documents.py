"""Documents that no longer tell the truth fail here."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from pipeline.cli.app import _COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_settings_page_is_what_the_settings_say():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "settings.md").read_text() == module.render_settings()


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_is_in_the_readme(command):
    assert f"oddframe {command}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_paths_named_in_a_page_exist(page):
    named = re.findall(r"`((?:pipeline|flows|docs|tests|sql|deploy|bench|sample_fits)/[\w./-]*)`", page.read_text())
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_in_a_page_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text())
    assert [t for t in targets if not (page.parent / t).exists()] == []


def test_makefile_targets_named_in_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (\w+)", (ROOT / "README.md").read_text()):
        if target != "a":
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_no_page_or_module_names_a_machine():
    pattern = re.compile(r"/home/\w+/|/root/|/work/|files\.pythonhosted\.org")
    offenders = [
        str(path.relative_to(ROOT))
        for folder in ("pipeline", "flows", "docs", "deploy", "sql", "bench", "sample_fits")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".sql", ".toml", ".yaml", ".json", ".csv"} and pattern.search(path.read_text())
    ]
    assert offenders == []
