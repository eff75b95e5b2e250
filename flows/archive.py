"""Placeholder until the service is there."""

from prefect import flow


@flow(name="archive")
def archive() -> None:
    """None."""
