"""Puts the top-level sql/ and deploy/ into the packages, where they are looked for; the rest: pyproject.toml."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[
        *find_namespace_packages(include=["pipeline*", "flows*"]),
        "pipeline.sql",
        "flows.deploy",
        "pipeline.stack.local",
    ],
    package_dir={"pipeline.sql": "sql", "flows.deploy": "deploy", "pipeline.stack.local": "deploy/local"},
)
