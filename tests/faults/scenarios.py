"""The faults: each is brought about on a world with work to do, and tells how long it took to have all of it again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests import children
from tests.faults.disk import fill, lend_small_disk, make_room
from tests.faults.proxy import Proxy
from tests.faults.stage import Stage
from tests.faults.workers import STEPS, read_all_again, read_on, read_once
from tests.faults.world import Damage, World

_FRAMES = 6
_PATIENCE = 180.0


@dataclass
class Tally:
    """What became of one kind of fault."""

    fault: str
    tried: int = 0
    kills: int = 0
    damage: Damage = field(default_factory=lambda: Damage(0, 0, 0))
    seconds: list[float] = field(default_factory=list)

    def add(self, damage: Damage, seconds: float, kills: int = 1) -> None:
        """One more try."""
        self.tried += 1
        self.kills += kills
        self.damage += damage
        self.seconds.append(seconds)


def finish(world: World) -> float:
    """Run a reader to the end; the seconds it took."""
    began = time.monotonic()
    code = children.run(read_once, world.settings)
    if code:
        raise AssertionError(f"a reader that nobody disturbed ended with {code}")
    return time.monotonic() - began


def kill_at_steps(stage: Stage, rounds: int) -> Iterator[Tally]:
    """SIGKILL at every named step of the commit order, and again, while that is mended, at the step after it.

    Each reader has a group of its own, so that none waits until a dead one is missed: where to go on is in the lake.
    """
    world = stage.make_world()
    tallies = {step: Tally(f"worker killed at: {step}, then at the next step") for step in STEPS}
    for number in range(rounds):
        for place, step in enumerate(STEPS):
            world.send(_FRAMES)
            kills = 0
            for at, times in ((step, number % 2 + 1), (STEPS[(place + 1) % len(STEPS)], 1)):
                world.renew_group()
                kills += children.run(read_once, world.settings, at, times) == -signal.SIGKILL
            world.renew_group()
            seconds = finish(world)
            tallies[step].add(world.assess(), seconds, kills)
        if number % 3 == 2:
            world = stage.make_world()
    yield from tallies.values()


def kill_at_random(stage: Stage, rounds: int) -> Iterator[Tally]:
    """SIGKILL at any moment; the next reader joins the same group and must wait until the dead one is missed."""
    tally, world = Tally("worker killed at a random moment, same group"), stage.make_world()
    for _ in range(rounds):
        world.send(_FRAMES)
        child = children.start(read_once, world.settings)
        time.sleep(stage.random.uniform(0.5, 4.0))
        os.kill(child, signal.SIGKILL)
        code = children.finish(child)
        seconds = finish(world)
        tally.add(world.assess(), seconds, kills=int(code == -signal.SIGKILL))
    yield tally


def kill_services(stage: Stage, rounds: int) -> Iterator[Tally]:
    """SIGKILL of each service while frames come and are worked on; then `up` again. Seconds from then on."""
    for service in ("kafka", "catalog", "milvus"):
        tally, world = Tally(f"service killed under load: {service}"), stage.make_world()
        child = children.start(read_on, world.settings)
        for _ in range(rounds):
            world.send(_FRAMES)
            time.sleep(stage.random.uniform(0.2, 3.0))
            os.kill(stage.pid_of(service), signal.SIGKILL)
            time.sleep(1.0)
            stage.supervisor.start(lambda *_: None)
            began = time.monotonic()
            world.send(2)
            arrived = world.wait_delivered(_PATIENCE)
            seconds = time.monotonic() - began
            tally.add(world.assess(), seconds if arrived else float("inf"))
        os.kill(child, signal.SIGTERM)
        children.finish(child)
        yield tally


def take_a_worker_away(stage: Stage, rounds: int) -> Iterator[Tally]:
    """Two workers of one group; one is killed, or stopped for longer than the group waits and let go on."""
    killed, frozen = Tally("one of two workers killed"), Tally("one of two workers frozen, then let go on")
    for number in range(rounds):
        world = stage.make_world()
        two = [children.start(read_on, world.settings) for _ in range(2)]
        world.send(_FRAMES)
        time.sleep(stage.random.uniform(2.0, 6.0))
        world.send(_FRAMES)
        began, freeze = time.monotonic(), number % 2 == 1
        os.kill(two[0], signal.SIGSTOP if freeze else signal.SIGKILL)
        arrived = world.wait_delivered(_PATIENCE)
        seconds = time.monotonic() - began if arrived else float("inf")
        os.kill(two[0], signal.SIGCONT if freeze else 0)
        world.send(_FRAMES)
        world.wait_delivered(_PATIENCE)
        for child in two:
            os.kill(child, signal.SIGTERM)
            children.finish(child)
        (frozen if freeze else killed).add(world.assess(), seconds, kills=int(not freeze))
    yield from (killed, frozen)


def deliver_oddly(stage: Stage, rounds: int) -> Iterator[Tally]:
    """Everything sent again in another order, over other partitions; and the topic read anew from its start."""
    again, replayed = Tally("duplicates, out of order"), Tally("topic replayed from the start")
    for _ in range(rounds):
        world = stage.make_world()
        world.send(_FRAMES, shuffle=True)
        finish(world)
        world.replay(shuffle=True)
        seconds = finish(world)
        again.add(world.assess(), seconds, kills=0)
        world.renew_group()
        began = time.monotonic()
        if children.run(read_all_again, world.settings):
            raise AssertionError("the replay did not come to its end")
        replayed.add(world.assess(), time.monotonic() - began, kills=0)
    yield from (again, replayed)


def cut_connections(stage: Stage, rounds: int) -> Iterator[Tally]:
    """Connections to the catalogue and to Milvus cut again and again in the middle of the work."""
    for service in ("catalog", "milvus"):
        tally = Tally(f"connection cut: {service}")
        for _ in range(rounds):
            with Proxy(stage.layout.port(service)) as proxy:
                section = {service: {"uri": f"http://127.0.0.1:{proxy.port}"}}
                world = stage.make_world(section)
                child = children.start(read_on, world.settings)
                world.send(_FRAMES)
                began = time.monotonic()
                for _ in range(4):
                    time.sleep(stage.random.uniform(0.3, 2.0))
                    proxy.cut()
                arrived = world.wait_delivered(_PATIENCE)
                seconds = time.monotonic() - began if arrived else float("inf")
                os.kill(child, signal.SIGTERM)
                children.finish(child)
                tally.add(world.assess(), seconds, kills=0)
        yield tally


def fill_the_disk(stage: Stage, rounds: int) -> Iterator[Tally]:
    """No byte free for kept originals, then room again; not tried where this user may not mount a small disk."""
    tally = Tally("disk full under the originals")
    for _ in range(rounds):
        world = stage.make_world()
        with lend_small_disk(world.settings.home / "originals") as disk:
            if disk is None:
                continue
            fill(disk)
            child = children.start(read_on, world.settings)
            world.send(_FRAMES)
            time.sleep(4.0)
            make_room(disk)
            began = time.monotonic()
            arrived = world.wait_delivered(_PATIENCE)
            seconds = time.monotonic() - began if arrived else float("inf")
            os.kill(child, signal.SIGTERM)
            children.finish(child)
            tally.add(world.assess(), seconds, kills=0)
    yield tally


SCENARIOS: dict[str, Callable[[Stage, int], Iterator[Tally]]] = {
    "steps": kill_at_steps,
    "random": kill_at_random,
    "services": kill_services,
    "workers": take_a_worker_away,
    "deliveries": deliver_oddly,
    "connections": cut_connections,
    "disk": fill_the_disk,
}
