"""Puts the top-level sql/ directory into the package as pipeline/sql; everything else stands in pyproject.toml."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["pipeline*", "flows*"]), "pipeline.sql"],
    package_dir={"pipeline.sql": "sql"},
)
