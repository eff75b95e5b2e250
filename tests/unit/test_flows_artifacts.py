"""What a run tells: flagged frames first, in words a person understands, and names that are never markup."""

from __future__ import annotations

import base64
import json
import re

from flows import artifacts
from flows.publish import conclude
from pipeline.run.verify import Check


def report(name: str, status: str, p_value: float | None = None, **more):
    line = {"name": name, "frame_id": "ab" * 32, "status": status, "p_value": p_value, "sigma": None}
    return {**line, "distance": None, "nearest": [], "detections": [], "reason": f"why {name}", **more}


REPORTS = [
    report("normal.fits", "normal", 0.4),
    report("odd.fits", "anomaly", 0.004),
    report("broken.fits", "unreadable"),
    report(
        "odder.fits",
        "anomaly",
        1e-9,
        nearest=[{"frame_id": "cd" * 32, "name": "ref.fits", "distance": 0.1}],
        detections=[{"x": 114.2, "y": 80.7}],
    ),
]


def test_flagged_frames_come_first_and_oddest_first():
    rows = artifacts.tabulate_reports(REPORTS)
    assert [row["frame"] for row in rows] == ["odder.fits", "odd.fits", "broken.fits", "normal.fits"]
    assert rows[0]["p-value"] == "1e-09"
    assert rows[0]["strongest place"] == "x 114, y 81"
    assert rows[0]["nearest reference"] == "ref.fits"
    assert rows[2]["p-value"] == ""
    json.dumps(rows)


def test_a_long_table_is_cut_and_says_so():
    rows = artifacts.tabulate_reports([report(f"{i:04}.fits", "normal", 0.5) for i in range(300)], most=200)
    assert len(rows) == 201
    assert rows[-1]["frame"].startswith("100 more")
    assert rows[-1].keys() == rows[0].keys()


def test_the_story_counts_names_and_says_how_to_look_further():
    story = artifacts.tell_reports("Ingest of night", REPORTS, [check("source").to_json()])
    assert "4 frames: 2 anomaly, 1 unreadable, 1 normal." in story
    assert "| anomaly | 2 |" in story
    assert "`oddframe explain odder.fits --picture odd.png`" in story
    assert story.index("odder") < story.index("**odd.fits**") < story.index("**broken.fits**")
    assert "All 1 checks agree" in story


def test_names_and_reasons_are_text_never_markup():
    name = "<img src=x>|[a](http://b)`rm -rf`.fits"
    line = report(name, "anomaly", 0.001, reason="*bold*\n# title")
    story = artifacts.tell_reports("x", [line])
    assert "<img" not in story
    assert "[a](" not in story
    assert "\n# title" not in story
    assert not re.search(r"(?<!\\)\*bold", story)
    # A name that is no plain word has no place in a command; its id has.
    assert f"`oddframe explain {'ab' * 8} --picture" in story
    assert "](" not in artifacts.tabulate_reports([line])[0]["frame"]


def test_nothing_is_a_story_too():
    assert "No frames." in artifacts.tell_reports("x", [])
    assert artifacts.tabulate_reports([]) == []


def check(name: str, *differences: str, repair: str = "") -> Check:
    return Check(name, 5, 5 - len(differences), differences, repair)


def test_a_verification_tells_what_differs_and_what_to_do():
    lines = [check("source").to_json(), check("vectors", "ab`12", "cd34", repair="embed again").to_json()]
    story = artifacts.tell_checks(lines, repaired=False)
    assert "1 of 2 checks found differences: vectors (2)." in story
    assert "`ab'12`, `cd34`" in story
    assert "embed again" in story
    assert "oddframe verify --repair" in story
    assert [row["agrees"] for row in artifacts.tabulate_checks(lines)] == ["NO", "yes"]


def test_a_difference_fails_the_run_and_is_named():
    state = conclude("3 frames.", [check("frames: one row a content", "ab12").to_json()])
    assert state.is_failed()
    assert state.message == "3 frames. 1 of 1 checks found differences: frames: one row a content (1)."
    assert conclude("3 frames.", [check("source").to_json()]).is_completed()
    assert conclude("3 frames.").is_completed()


def test_an_archive_run_is_summed_up():
    steps = [
        {"step": "originals", "moved": 3, "bytes": 2**21, "kept": 1, "problems": 1, "examples": ["x is *odd*"]},
        {"step": "checksums", "checked": 7, "problems": 0, "examples": []},
    ]
    story = artifacts.tell_archive(steps)
    assert "3 originals archived (2.0 MiB), 7 checksums compared, 1 problems." in story
    assert "x is \\*odd\\*" in story
    assert artifacts.count_problems(steps) == 1
    table = artifacts.tabulate_steps(steps)
    assert table[1] == {"step": "checksums", "where": "", "done": "checked 7, problems 0"}


def test_a_tidying_is_summed_up_and_what_it_left_is_named():
    steps = [
        {"step": "compact", "table": "frames", "files_before": 9, "files_after": 2, "left": 0, "dry_run": False},
        {"step": "compact", "table": "verdicts", "files_before": 5, "files_after": 5, "left": 5, "dry_run": False},
        {"step": "expire", "table": "frames", "expired": 4, "kept": 2, "pinned": ["paper`1"], "dry_run": False},
        {"step": "orphans", "table": "frames", "files": 5, "bytes": 2**21, "examples": ["/a"], "dry_run": False},
        {"step": "vectors", "collection": "oddframe_p", "state": "unfinished", "segments_before": 3, "dry_run": False},
    ]
    story = artifacts.tell_maintain(steps)
    assert "7 small files merged away (5 left), 4 snapshots expired, 5 orphaned files removed (2.0 MiB), 1" in story
    assert "busy in `verdicts`: the next run" in story
    assert "still at work on `oddframe_p`" in story
    assert "pinned as `paper'1` of `frames`" in story
    assert "dry run" not in story
    assert "dry run" in artifacts.tell_maintain([{**step, "dry_run": True} for step in steps])
    table = artifacts.tabulate_steps(steps)
    assert table[0] == {"step": "compact", "where": "frames", "done": "files before 9, files after 2, left 0"}
    assert table[4] == {"step": "vectors", "where": "oddframe_p", "done": "state unfinished, segments before 3"}
    quiet = artifacts.tell_maintain([steps[0]])
    assert "busy" not in quiet
    assert "pinned" not in quiet


def test_an_audit_says_which_reference_to_look_at():
    lines = [
        {"name": "m31g.FITS", "frame_id": "ab" * 32, "p_value": 1e-4, "reason": "far: odd, look at it (flag at 0.1)"},
        {"name": "m31a.FITS", "frame_id": "cd" * 32, "p_value": 0.5, "reason": "near: in line (flag at 0.1)"},
    ]
    assert "oddframe reference remove m31g.FITS" in artifacts.tell_audit(lines)
    assert "None of them is odd." in artifacts.tell_audit(lines[1:])
    assert artifacts.tabulate_audit(lines)[0]["p-value"] == "0.0001"


def test_a_picture_travels_in_its_link():
    link = artifacts.embed_png(b"\x89PNG")
    assert base64.b64decode(link.removeprefix("data:image/png;base64,")) == b"\x89PNG"
