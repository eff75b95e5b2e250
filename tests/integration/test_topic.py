"""Frames through a topic into the shared stores: every form, what gives no frame, what is sent again, two readers."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.parts import find_kafka, open_tables
from pipeline.settings import Settings
from pipeline.source.connection import open_admin
from pipeline.source.messages import Outgoing, write_claim, write_envelope, write_raw
from tests import children
from tests.faults.workers import read_all_again, read_on, read_once
from tests.faults.world import Damage, World, lend_world
from tests.lake_tools import oddframe, read_lines
from tests.stack import require_stack

CLEAN = Damage(0, 0, 0)


@pytest.fixture
def world(tmp_path) -> Iterator[World]:
    with lend_world(require_stack(), tmp_path, seed=3) as made:
        made.add_references()
        yield made


def rows(settings: Settings, table: str) -> list[dict]:
    tables = open_tables(settings)
    try:
        return tables.scan(table).to_pylist()
    finally:
        tables.close()


def make_frame(world: World) -> bytes:
    message = world._make_frame(0, odd=False)
    world.good.clear()
    return message.value


def test_every_form_becomes_a_frame_and_what_is_none_a_dead_letter(world, tmp_path):
    contents = [make_frame(world) for _ in range(3)]
    claims = world.settings.home / "claims"
    claims.mkdir()
    claimed = claims / "claimed.fits"
    claimed.write_bytes(contents[2])
    outside = tmp_path / "outside.fits"
    outside.write_bytes(contents[2])
    world.deliver([
        write_raw(contents[0], "raw.fits", {"OBSERVER": "nobody"}),
        write_envelope(contents[1], "enveloped.fits"),
        write_claim(claimed, sha256(contents[2]).hexdigest(), len(contents[2]), "claimed.fits"),
        write_claim(outside, sha256(contents[2]).hexdigest(), len(contents[2]), "outside.fits"),
        Outgoing(b"no frame"),
        Outgoing(b'{"image_data": "%%%", "file": "x.fits"}'),
    ])  # fmt: skip
    assert children.run(read_once, world.settings) == 0
    named = Counter(r["name"] for r in rows(world.settings, "frames"))
    assert [named[name] for name in ("raw.fits", "enveloped.fits", "claimed.fits", "outside.fits")] == [1, 1, 1, 0]
    (raw,) = [dict(r["header"]) for r in rows(world.settings, "frames") if r["name"] == "raw.fits"]
    assert raw["message.OBSERVER"] == "nobody"
    assert "OBSERVER" not in raw
    codes = Counter(r["code"] for r in rows(world.settings, "quarantine"))
    assert codes == {"claim_outside": 1, "unknown_form": 1, "bad_base64": 1}
    home, given = world.settings.home, world.environment()
    letters = read_lines(oddframe("topic", "letters", "--json", home=home, **given).stdout)
    assert Counter(letter["code"] for letter in letters) == codes
    lag = read_lines(oddframe("topic", "lag", "--json", home=home, **given).stdout)
    assert [line["lag"] for line in lag] == [0, 0, 0]
    checks = read_lines(oddframe("verify", "--json", home=home, **given).stdout)
    assert all(check["ok"] for check in checks)
    assert f"topic {world.topic}: every message is delivered" in {check["check"] for check in checks}


def test_a_dead_letter_is_tried_again_once_its_cause_is_gone(world):
    content = make_frame(world)
    late = world.settings.home / "claims" / "late.fits"
    late.parent.mkdir()
    world.deliver([write_claim(late, sha256(content).hexdigest(), len(content), "late.fits"), Outgoing(b"never")])
    assert children.run(read_once, world.settings) == 0
    assert Counter(r["code"] for r in rows(world.settings, "quarantine")) == {"claim_missing": 1, "unknown_form": 1}
    late.write_bytes(content)
    home, given = world.settings.home, world.environment()
    assert oddframe("topic", "redrive", home=home, **given).returncode == 0
    assert children.run(read_once, world.settings) == 0
    assert "late.fits" in {r["name"] for r in rows(world.settings, "frames")}
    jailed = rows(world.settings, "quarantine")
    assert Counter((r["code"], r["event"]) for r in jailed) == {
        ("claim_missing", "quarantined"): 1,
        ("claim_missing", "redriven"): 1,
        ("unknown_form", "quarantined"): 1,
    }
    letters = read_lines(oddframe("topic", "letters", "--json", home=home, **given).stdout)
    assert Counter((letter["code"], letter["again"]) for letter in letters) == {
        ("claim_missing", True): 1,
        ("unknown_form", True): 1,
        ("unknown_form", False): 1,
    }
    assert all(check["ok"] for check in read_lines(oddframe("verify", "--json", home=home, **given).stdout))


def test_two_dead_letters_of_one_content_make_one_frame(world):
    """As a reader leaves them that is killed between the letter and the commit, or a sender that tries again."""
    content = make_frame(world)
    late = world.settings.home / "claims" / "late.fits"
    late.parent.mkdir()
    claim = write_claim(late, sha256(content).hexdigest(), len(content), "late.fits")
    # Written otherwise, or it would be a copy of a message that is known.
    world.deliver([claim, Outgoing(claim.value + b" ", claim.headers)])
    assert children.run(read_once, world.settings) == 0
    late.write_bytes(content)
    assert oddframe("topic", "redrive", home=world.settings.home, **world.environment()).returncode == 0
    assert children.run(read_once, world.settings) == 0
    frame_id = sha256(content).hexdigest()
    assert [r["frame_id"] for r in rows(world.settings, "frames")].count(frame_id) == 1
    assert [r["frame_id"] for r in rows(world.settings, "verdicts")].count(frame_id) == 1
    outcomes = Counter(r["outcome"] for r in rows(world.settings, "deliveries") if r["frame_id"] == frame_id)
    assert outcomes == {"new": 1, "duplicate": 1}


def test_duplicates_out_of_order_and_a_replay_change_nothing(world):
    world.send(4, shuffle=True)
    assert children.run(read_once, world.settings) == 0
    world.replay(shuffle=True)
    assert children.run(read_once, world.settings) == 0
    assert world.assess() == CLEAN
    before = len(rows(world.settings, "deliveries"))
    world.renew_group()
    assert children.run(read_all_again, world.settings) == 0
    assert world.assess() == CLEAN
    assert len(rows(world.settings, "deliveries")) == before


def test_a_topic_that_is_gone_is_named_by_verify(world):
    world.send(3)
    assert children.run(read_once, world.settings) == 0
    admin = open_admin(find_kafka(world.settings))
    admin.delete_topics([world.topic])
    admin.close()
    checks = read_lines(oddframe("verify", "--json", home=world.settings.home, **world.environment()).stdout)
    assert f"topic {world.topic}: gone, not compared" in {check["check"] for check in checks}
    assert all(check["ok"] for check in checks)


def test_two_readers_share_a_topic_and_one_that_is_killed_is_replaced(world):
    two = [children.start(read_on, world.settings) for _ in range(2)]
    world.send(6)
    assert world.wait_delivered(120)
    world.send(6)
    os.kill(two[0], signal.SIGKILL)
    assert world.wait_delivered(120)
    os.kill(two[1], signal.SIGTERM)
    assert [children.finish(child) for child in two] == [-signal.SIGKILL, 0]
    assert world.assess() == CLEAN


def test_a_telescope_and_a_watch_from_the_command_line(world, tmp_path):
    frames = []
    for number in range(3):
        frames.append(tmp_path / f"n{number}.fits")
        frames[-1].write_bytes(make_frame(world))
    home, given = world.settings.home, world.environment()
    sent = oddframe("produce", *frames, "--cadence", 0.1, "--burst", 2, home=home, **given)
    assert sent.returncode == 0, sent.stderr
    done = oddframe("watch", "--once", "--json", home=home, **given)
    assert done.returncode == 0, done.stderr
    assert {line["name"]: line["status"] for line in read_lines(done.stdout)} == dict.fromkeys(
        ["n0.fits", "n1.fits", "n2.fits"], "normal"
    )
    again = oddframe("watch", "--topic", world.topic, "--once", home=home, **given)
    assert again.stderr.splitlines()[-1] == "stopped: no frames"


def test_an_odd_frame_has_the_same_verdict_on_both_profiles(tmp_path):
    require_stack()
    stack = require_stack()
    given = {"ODDFRAME_STACK__FIRST_PORT": str(stack.first_port), "ODDFRAME_STACK__DATA": str(stack.data)}
    done = oddframe(
        "demo", tmp_path / "demo", "--profile", "full", "--frames", 6, "--size", 128, "--json",
        home=tmp_path / "home", **given,
    )  # fmt: skip
    assert "bit for bit, on 12 of 12 frames" in done.stderr
    assert "every check agrees" in done.stderr
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[0])["status"] == "anomaly"
    assert Path(tmp_path / "demo" / "flagged.png").stat().st_size > 1000
