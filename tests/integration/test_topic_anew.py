"""A topic that was deleted and made again under its name, as every command meets it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from pipeline.parts import find_kafka
from pipeline.source.connection import open_admin
from pipeline.source.messages import Outgoing
from pipeline.source.topics import create_topic
from tests import children
from tests.faults.workers import read_once
from tests.faults.world import World, lend_world
from tests.lake_tools import oddframe_here, read_lines
from tests.stack import require_stack


@pytest.fixture
def world(tmp_path, monkeypatch) -> Iterator[World]:
    with lend_world(require_stack(), tmp_path, seed=3) as made:
        for name, value in made.environment().items():
            monkeypatch.setenv(name, value)
        yield made


def make_anew(world: World) -> None:
    connection = find_kafka(world.settings)
    admin = open_admin(connection)
    admin.delete_topics([world.topic])
    while world.topic in admin.list_topics():
        time.sleep(0.1)
    admin.close()
    create_topic(connection, world.topic, 3)


def test_messages_of_a_topic_made_anew_are_not_taken_for_known_ones(world):
    world.deliver([Outgoing(b"no frame %d" % number) for number in range(40)])
    assert children.run(read_once, world.settings) == 0
    make_anew(world)
    world.deliver([Outgoing(b"another %d" % number) for number in range(3)])
    home = world.settings.home
    for command in (("watch", "--once"), ("topic", "lag")):
        done = oddframe_here(*command, home=home)
        assert (done.returncode, "a name of its own" in done.stderr) == (3, True), done.stderr
    (wrong,) = [check for check in read_lines(oddframe_here("verify", "--json", home=home).stdout) if not check["ok"]]
    assert wrong["check"] == f"topic {world.topic}: every message is delivered"
    assert (wrong["expected"], wrong["found"], wrong["repair"]) == (3, 0, "")
    assert "a name of its own" in wrong["examples"][0]
    asked = {check["check"]: check for check in read_lines(oddframe_here("doctor", "--json", home=home).stdout)}
    assert "a name of its own" in str(asked["kafka"])
