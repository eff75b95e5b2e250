"""Puts the top-level sql/ and deploy/ into the packages as pipeline/sql and flows/deploy; the rest: pyproject.toml."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["pipeline*", "flows*"]), "pipeline.sql", "flows.deploy"],
    package_dir={"pipeline.sql": "sql", "flows.deploy": "deploy"},
)
