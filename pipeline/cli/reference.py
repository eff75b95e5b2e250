"""`reference add | learn | list | audit | remove | promote`: the frames others are compared with."""

from __future__ import annotations

import getpass
import os
from typing import Annotated

from cyclopts import App, Parameter

from pipeline.cli.app import COMMON, Common
from pipeline.cli.output import print_lines, remark, show_progress
from pipeline.cli.ranges import Days, FromOne, Share
from pipeline.errors import UsageError
from pipeline.run.batch import IngestRequest, Purpose
from pipeline.run.ingest import Ingestor
from pipeline.run.lake import Lake
from pipeline.run.land import expand_paths
from pipeline.run.promote import promote_frames
from pipeline.run.reference import audit_references, list_references, remove_references
from pipeline.settings import load_settings
from pipeline.wiring import build_promotion, find_home, open_lake, read_lake

reference = App(name="reference", help="The reference repository: the frames that others are compared with.")


@reference.command
def add(*paths: str, embedding: str | None = None, why: str = "", common: Common = COMMON) -> int:
    """Make frames references; each also gets its row in `frames`.

    Parameters
    ----------
    paths
        Files, directories (walked) or glob patterns.
    embedding
        The embedding to index them under; by default the best one.
    why
        Reason, kept in the log of members.
    """
    if not paths:
        raise UsageError("nothing to add; name files, a directory or a pattern")
    files = expand_paths(paths)
    request = IngestRequest(Purpose.REFERENCE, embedding=embedding, by=_name_user(), why=why)
    with (
        open_lake(load_settings(common.home)) as lake,
        Ingestor(lake, request) as ingestor,
        show_progress("reference add", len(files)) as advance,
    ):

        def report() -> object:
            for line in ingestor.ingest(files):
                advance(line["name"])
                yield line

        columns = ("name", "status", "embedding", "reason")
        print_lines(report(), as_json=common.json, columns=columns)  # type: ignore[arg-type]
        tell_lessons(lake)
    return 0


@reference.command
def learn(*, anew: Annotated[bool, Parameter(negative="")] = False, common: Common = COMMON) -> int:
    """Learn a model of every field whose references changed; `add` and `remove` do so by themselves.

    Parameters
    ----------
    anew
        Learn every field again, changed or not.
    """
    from pipeline.run.learn import learn_models  # noqa: PLC0415 - loads what computes

    with (
        open_lake(find_home(load_settings(common.home))) as lake,
        show_progress("learn", None) as advance,
    ):
        lessons = [lesson.to_json() for lesson in learn_models(lake, advance, anew=anew)]
    columns = ("field", "outcome", "references", "registered", "odd", "left_out", "unregistered", "model")
    print_lines(lessons, as_json=common.json, columns=columns)
    return 0


@reference.command(name="list")
def list_(*, common: Common = COMMON) -> int:
    """The references there are now."""
    with read_lake(find_home(load_settings(common.home))) as lake:
        columns = ("name", "frame_id", "embedding", "instrument", "filter", "exposure_s", "zone", "obs_time")
        print_lines(list_references(lake), as_json=common.json, columns=columns)
    return 0


@reference.command
def audit(*, common: Common = COMMON) -> int:
    """Leave-one-out: every reference against the others of its cell, worst first."""
    with open_lake(find_home(load_settings(common.home))) as lake:
        columns = ("name", "distance", "p_value", "embedding", "reason")
        print_lines(audit_references(lake), as_json=common.json, columns=columns)
    return 0


@reference.command
def remove(*frames: str, why: str = "", common: Common = COMMON) -> int:
    """Take frames out of the references; the frames themselves stay.

    Parameters
    ----------
    frames
        File names, frame ids, or the beginning of ids (six digits or more).
    why
        Reason, kept in the log of members.
    """
    if not frames:
        raise UsageError("nothing to remove; name references as `oddframe reference list` shows them")
    with open_lake(find_home(load_settings(common.home))) as lake:
        lines = remove_references(lake, frames, by=_name_user(), why=why)
        print_lines(lines, as_json=common.json, columns=("name", "frame_id", "embedding", "action"))
        tell_lessons(lake)
    return 0


@reference.command
def promote(
    *,
    days: Days | None = None,
    most: FromOne | None = None,
    p: Share | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    common: Common = COMMON,
) -> int:
    """Make normal frames references by rule: old enough, usual enough, no more than a cell needs.

    Never one that was called an anomaly once, or that was a reference before. What is not given is as the settings say.

    Parameters
    ----------
    days
        Observed at least this many days ago.
    most
        A cell with this many references gets no more.
    p
        Every newest verdict has at least this p-value.
    dry_run
        Say what would join, and change nothing.
    """
    settings = find_home(load_settings(common.home))
    rule = build_promotion(settings, days=days, most=most, p=p)
    with open_lake(settings) as lake:
        lines = promote_frames(lake, rule, dry_run=dry_run)
        print_lines(lines, as_json=common.json, columns=("name", "action", "p_value", "obs_time", "reason"))
        if not dry_run:
            tell_lessons(lake)
    return 0


def tell_lessons(lake: Lake) -> None:
    """Learn what is to be learnt, and say what became of each field."""
    from pipeline.run.learn import learn_models  # noqa: PLC0415 - loads what computes

    with show_progress("learn", None) as advance:
        lessons = list(learn_models(lake, advance))
    for lesson in lessons:
        remark(lesson.tell())


def _name_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a number that has no name.
        return f"uid {os.getuid()}"
