"""The only clock: naive UTC, as the tables keep it; passed on to whatever needs the time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def now_utc() -> datetime:
    """The current time as naive UTC, microseconds."""
    return datetime.now(UTC).replace(tzinfo=None)


def days_ago(days: float) -> datetime:
    """Naive UTC time so many days back."""
    return now_utc() - timedelta(days=days)
