"""Prove that all stores agree; mend them where that is asked for."""

from __future__ import annotations

from prefect import State, flow

from flows.artifacts import count_failed, summarise_checks
from flows.forms import VerifyOptions
from flows.publish import conclude, publish_checks
from flows.tasks import check_lake, load_patient_settings, mend_lake
from pipeline.wiring import open_lake

_OPTIONS = VerifyOptions()


@flow(name="verify")
def verify(options: VerifyOptions = _OPTIONS) -> State[None]:
    """Compare source, tables, vectors and originals; the run fails where they differ.

    Args:
        options: Whether differences are mended.
    """
    with open_lake(load_patient_settings()) as lake:
        checks = check_lake(lake)
        lines = [check.to_json() for check in checks]
        repaired = options.repair and count_failed(lines) > 0
        if repaired:
            lines = [check.to_json() for check in mend_lake(lake, checks)]
    publish_checks(lines, repaired=repaired)
    return conclude("" if count_failed(lines) else summarise_checks(lines), lines)
