"""Kafka as it is met: passwords, a broker that is killed, and what its library leaves to be built around."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ConfigResource,
    ConfigResourceType,
    ResourcePattern,
    ResourceType,
)
from pydantic import SecretStr

from pipeline.errors import OddframeError, TransientError, UsageError
from pipeline.ports import SourcePosition
from pipeline.source.connection import KafkaConnection, open_admin
from pipeline.source.kafka import KafkaSource
from pipeline.source.kafka_log import KafkaLog
from pipeline.source.messages import Outgoing
from pipeline.source.producer import FrameProducer, ProducerRules
from pipeline.source.topics import create_topic
from pipeline.store.positions import PositionSet
from tests.broker import Broker, make_certificates, write_users
from tests.kafka_tools import Lake, make_topic, poll_until, send, work
from tests.stack import require_stack

PASSWORDS = {"alice": "alice-pass-3f81", "bob": "bob-pass-77aa", "carol": "carol-pass-90cd"}


@pytest.fixture(scope="module")
def shared() -> KafkaConnection:
    return KafkaConnection(bootstrap=f"127.0.0.1:{require_stack().port('kafka')}")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[tuple[Broker, KafkaConnection]]:
    """A broker that lets in alice and bob by PLAIN and carol by SCRAM; the connection is alice's."""
    cache = require_stack().cache
    broker = Broker(tmp_path_factory.mktemp("guarded"), cache, "kafka/sasl.properties")
    authority = make_certificates(broker.directory / "etc")
    write_users(broker.directory / "etc", {name: PASSWORDS[name] for name in ("alice", "bob")})
    broker.prepare({"carol": PASSWORDS["carol"]})
    broker.start()
    try:
        broker.wait()
        yield (
            broker,
            KafkaConnection(
                bootstrap=f"127.0.0.1:{broker.layout.port('kafka_sasl')}",
                protocol="SASL_SSL",
                mechanism="PLAIN",
                user="alice",
                password=SecretStr(PASSWORDS["alice"]),
                ca_file=authority,
                seconds=4.0,
            ),
        )
    finally:
        broker.kill()


@pytest.fixture(scope="module")
def mortal(tmp_path_factory) -> Iterator[Broker]:
    """A broker to be killed."""
    broker = Broker(tmp_path_factory.mktemp("mortal"), require_stack().cache)
    broker.prepare()
    broker.start()
    try:
        broker.wait()
        yield broker
    finally:
        broker.kill()


def group() -> str:
    return f"test-{secrets.token_hex(6)}"


@pytest.mark.parametrize(
    ("mechanism", "user"), [("PLAIN", "alice"), ("SCRAM-SHA-256", "carol"), ("SCRAM-SHA-512", "carol")]
)
def test_frames_go_to_and_fro_under_tls_with_a_password(guarded, mechanism, user):
    connection = replace(guarded[1], mechanism=mechanism, user=user, password=SecretStr(PASSWORDS[user]))
    with make_topic(connection) as topic:
        large = secrets.token_bytes(6_000_000)
        places = send(connection, topic, [b"small", large])
        source, lake = KafkaSource(connection, topic, group(), PositionSet), Lake()
        work(source, lake, lambda: len(lake.values) == 2)
        source.close()
        assert lake.values == [b"small", large]
        assert lake.held == PositionSet().add(places)


def test_a_wrong_password_is_said_in_one_line_within_seconds(guarded):
    connection = guarded[1]
    for user, mechanism in (("alice", "PLAIN"), ("carol", "SCRAM-SHA-512"), ("nobody", "SCRAM-SHA-256")):
        wrong = replace(connection, user=user, mechanism=mechanism, password=SecretStr("not-the-one"), seconds=2.0)
        for make in (open_admin, lambda c: KafkaSource(c, "t", "g", PositionSet)):
            if user != "alice" and make is not open_admin:
                continue
            began = time.monotonic()
            with pytest.raises(UsageError) as caught:
                make(wrong)
            assert time.monotonic() - began < 8.0
            assert str(caught.value) == (
                f"Kafka at {connection.bootstrap} refuses user {user}: wrong user or password, mechanism or protocol"
            )


def test_a_client_without_credentials_or_without_trust_is_refused(guarded):
    connection = guarded[1]
    bare = KafkaConnection(bootstrap=connection.bootstrap, seconds=2.0)
    with pytest.raises(UsageError, match="answers, but not to PLAINTEXT"):
        open_admin(bare)
    with pytest.raises(UsageError, match="answers, but not to SSL"):
        open_admin(replace(bare, protocol="SSL", ca_file=connection.ca_file))
    with pytest.raises(UsageError, match="certificate that we do not trust"):
        open_admin(replace(connection, ca_file=None, seconds=2.0))
    with pytest.raises(UsageError, match=r"does not know|refuses user"):
        open_admin(replace(connection, mechanism="SCRAM-SHA-256", seconds=2.0))


def test_a_user_who_may_not_read_or_write_a_topic_is_told(guarded):
    broker, connection = guarded
    with make_topic(broker.plain) as topic:
        admin = open_admin(broker.plain)
        for operation in (ACLOperation.READ, ACLOperation.WRITE, ACLOperation.DESCRIBE):
            pattern = ResourcePattern(ResourceType.TOPIC, topic)
            admin.create_acls([ACL("User:alice", "*", operation, ACLPermissionType.ALLOW, pattern)])
        admin.close()
        send(connection, topic, [b"mine"])
        bob = replace(connection, user="bob", password=SecretStr(PASSWORDS["bob"]))
        for make in (lambda: KafkaSource(bob, topic, group(), PositionSet), lambda: FrameProducer(bob, topic)):
            with pytest.raises(UsageError, match="this user may"):
                make()


def test_a_user_who_may_not_make_topics_uses_one_that_is_there(guarded):
    broker, connection = guarded
    admin = open_admin(broker.plain)
    with make_topic(broker.plain) as topic:
        patterns = {
            "carol": (ResourcePattern(ResourceType.CLUSTER, "kafka-cluster"), ACLOperation.CREATE),
            "bob": (ResourcePattern(ResourceType.TOPIC, f"{topic}-b"), ACLOperation.READ),
            "alice": (ResourcePattern(ResourceType.TOPIC, topic), ACLOperation.READ),
        }
        # Where somebody has a right by name, whoever has none has no right.
        lists = [
            ACL(f"User:{user}", "*", operation, ACLPermissionType.ALLOW, pattern)
            for user, (pattern, operation) in patterns.items()
        ]
        admin.create_acls(lists)
        try:
            with pytest.raises(UsageError, match=f"cannot create topic {topic}-b: this user may not"):
                create_topic(connection, f"{topic}-b")
            assert not create_topic(connection, topic)
        finally:
            admin.delete_acls(lists)
            admin.close()


SAY_EVERYTHING = """
import logging, sys
from pathlib import Path
from pydantic import SecretStr
from pipeline.errors import OddframeError
from pipeline.source.connection import KafkaConnection, open_admin
from pipeline.source.topics import create_topic
from pipeline.source.kafka import KafkaSource
from pipeline.source.producer import FrameProducer
from pipeline.source.messages import write_raw
from pipeline.store.positions import PositionSet

bootstrap, ca, level = sys.argv[1:4]
if level:
    logging.basicConfig(level=level, stream=sys.stdout)
for mechanism, user, password in (part.split("=") for part in sys.stdin.read().split()):
    connection = KafkaConnection(bootstrap=bootstrap, protocol="SASL_SSL", mechanism=mechanism, user=user,
                                 password=SecretStr(password), ca_file=Path(ca), seconds=2.0)
    print(connection, repr(connection))
    try:
        create_topic(connection, "said")
        producer = FrameProducer(connection, "said")
        producer.send(write_raw(b"x", "x"), "x")
        producer.flush()
        producer.close()
        source = KafkaSource(connection, "said", "g", PositionSet)
        print(len(source.poll(1, 5.0)), "read")
        source.close()
        raise ValueError(connection.options())
    except OddframeError as error:
        print("ERROR", error)
    except ValueError as error:
        print("OPTIONS", error)
"""


@pytest.mark.parametrize("level", ["DEBUG", ""])
def test_no_secret_is_in_any_output(guarded, level):
    connection = guarded[1]
    logins = [f"PLAIN=alice={PASSWORDS['alice']}", f"SCRAM-SHA-256=carol={PASSWORDS['carol']}", "PLAIN=bob=wrong-pass"]
    said = subprocess.run(
        [sys.executable, "-c", SAY_EVERYTHING, connection.bootstrap, str(connection.ca_file), level],
        input="\n".join(logins).encode(),
        capture_output=True,
        check=True,
        timeout=120,
    )
    text = (said.stdout + said.stderr).decode()
    assert text.count("1 read") == 2
    assert text.count("OPTIONS") == 2
    assert text.count("ERROR") >= 1
    for secret in (*PASSWORDS.values(), "wrong-pass"):
        assert secret not in text
    if not level:
        # Nothing of the library's own finds its way to a terminal.
        assert said.stderr == b""
        assert len([line for line in text.splitlines() if "ERROR" in line]) == 1
    else:
        assert "DEBUG" in text


def test_a_broker_that_is_away_is_said_in_one_line_within_seconds():
    require_stack()
    began = time.monotonic()
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:1 cannot be reached within 1 s"):
        open_admin(KafkaConnection(bootstrap="127.0.0.1:1", seconds=1.0))
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"bootstrap": " "}, "address of a broker"),
        ({"protocol": "TLS"}, "security protocol"),
        ({"ca_file": Path("/no/such/file")}, "cannot be read"),
        ({"user": "u"}, "not used with PLAINTEXT"),
        ({"protocol": "SASL_SSL"}, "needs a mechanism"),
        ({"protocol": "SASL_SSL", "mechanism": "GSSAPI"}, "needs a mechanism"),
        ({"protocol": "SASL_SSL", "mechanism": "PLAIN", "user": "u"}, "user and a password"),
        ({"protocol": "SASL_SSL", "mechanism": "PLAIN", "user": "u", "password": SecretStr("")}, "user and a password"),
        ({"protocol": "SASL_PLAINTEXT", "mechanism": "PLAIN", "user": "u", "password": SecretStr("p")}, "in the clear"),
    ],
)
def test_a_connection_that_cannot_work_is_refused_before_it_is_tried(wrong, text):
    with pytest.raises(UsageError, match=text):
        KafkaConnection(**wrong)


def test_defect_1_a_slow_reader_loses_nothing_of_what_was_fetched_ahead(shared):
    """A partition paused with fetched records is never read again: we do not pause, we poll less."""
    with make_topic(shared, partitions=3) as topic:
        send(
            shared,
            topic,
            (n.to_bytes(4, "big") * 1_000 for n in range(300)),
            ProducerRules(max_in_flight_bytes=100_000),
        )
        source, got = KafkaSource(shared, topic, group(), PositionSet), []
        while len(got) < 300:
            batch = source.poll(23, 5.0)
            assert 0 < len(batch) <= 23
            got += batch
            time.sleep(0.05)
        assert sorted(m.value[:4] for m in got) == [n.to_bytes(4, "big") for n in range(300)]
        assert source.poll(23, 0.5) == []
        source.close()


def test_defect_2_a_message_the_broker_finds_too_large_does_not_spoil_the_producer(shared):
    """One MessageSizeTooLarge poisons an idempotent producer: ours is replaced, and the others go in order."""
    sent: list[str] = []
    with make_topic(shared, max_message_bytes="1000000") as topic:
        producer = FrameProducer(shared, topic, on_sent=lambda name, _place: sent.append(name))
        with pytest.raises(UsageError, match=r"at once is 1000257 bytes.*takes 1000000"):
            producer.send(Outgoing(bytes(1_000_001)), "at once")
        admin = open_admin(shared)
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "200000"})])
        admin.close()
        time.sleep(1.0)
        refused = 0
        for name, size in [("a", 100), ("b", 150_000), ("large", 500_000), ("c", 100), ("d", 150_000), ("e", 10)]:
            try:
                producer.send(Outgoing(name[:1].encode() * size), name)
            except UsageError as error:
                assert "large is" in str(error)  # noqa: PT017 - which call says it depends on the broker's speed
                refused += 1
                if name != "large":
                    producer.send(Outgoing(name[:1].encode() * size), name)
        for _ in range(2):
            try:
                producer.flush()
            except UsageError as error:
                assert "large is" in str(error)  # noqa: PT017
                refused += 1
        producer.close()
        assert refused == 1
        assert set(sent) == {"a", "b", "c", "d", "e"}
        log = KafkaLog(shared, topic)
        values = [m.value for m in log.read(f"kafka:{topic}:0", 0, 100)]
        log.close()
        assert set(values) == {b"a" * 100, b"b" * 150_000, b"c" * 100, b"d" * 150_000, b"e" * 10}


def test_defect_3_what_is_in_flight_is_bounded_while_the_broker_does_not_answer(mortal):
    """There is no buffer.memory: who sends waits at our own bound."""
    rules = ProducerRules(max_in_flight_bytes=1_000_000, seconds=40.0)
    with make_topic(mortal.plain) as topic:
        producer = FrameProducer(mortal.plain, topic, rules)
        producer.send(Outgoing(b"first"), "first")
        producer.flush()
        most = 0

        def send_many() -> None:
            nonlocal most
            for n in range(100):
                producer.send(Outgoing(bytes(100_000)), str(n))
                most = max(most, producer._in_flight)

        mortal.signal(signal.SIGSTOP)
        thread = threading.Thread(target=send_many)
        try:
            thread.start()
            thread.join(3.0)
            assert thread.is_alive()
            assert producer._in_flight <= 1_000_000
        finally:
            mortal.signal(signal.SIGCONT)
        thread.join(60.0)
        producer.flush()
        producer.close()
        assert 800_000 < most <= 1_000_000
        log = KafkaLog(mortal.plain, topic)
        assert log.list_ranges() == {f"kafka:{topic}:0": (0, 101)}
        log.close()


def test_a_producer_whose_cluster_stays_away_says_so_and_sends_again_when_asked(mortal):
    with make_topic(mortal.plain) as topic:
        producer = FrameProducer(mortal.plain, topic, ProducerRules(seconds=3.0))
        producer.send(Outgoing(b"first"), "first.fits")
        producer.flush()
        mortal.signal(signal.SIGSTOP)
        try:
            producer.send(Outgoing(b"second"), "second.fits")
            with pytest.raises(TransientError, match=r"did not acknowledge 1 messages within 3 s, first second\.fits"):
                producer.flush()
        finally:
            mortal.signal(signal.SIGCONT)
        producer.flush()
        threads = [thread.name for thread in threading.enumerate()]
        producer.close()
        assert sum("producer" in name for name in threads) <= 2
        log = KafkaLog(mortal.plain, topic)
        values = [m.value for m in log.read(f"kafka:{topic}:0", 0, 100)]
        log.close()
        # What the first producer had on the wire may have arrived: known by its content, it is no second frame.
        assert values in ([b"first", b"second"], [b"first", b"second", b"second"])


def test_a_topic_that_goes_while_it_is_sent_to_is_said_in_our_words(shared):
    with make_topic(shared) as topic, closing(FrameProducer(shared, topic, ProducerRules(seconds=2.0))) as producer:
        producer.send(Outgoing(b"first"), "first.fits")
        producer.flush()
        admin = open_admin(shared)
        admin.delete_topics([topic])
        admin.close()

        def deliver(name: str) -> None:
            producer.send(Outgoing(b"later"), name)
            producer.flush()

        with pytest.raises(TransientError, match=r"did not acknowledge 1 messages within 2 s, first 0\.fits"):
            deliver("0.fits")
        # It asks where the topic is, and nobody knows.
        with pytest.raises(TransientError, match=rf"cannot send 0\.fits to topic {topic}: KafkaTimeoutError"):
            deliver("1.fits")


def test_defect_4_a_rebalance_that_the_end_of_a_poll_cuts_in_two_is_gone_on_with(shared):
    """One that a change of the topic began is forgotten by the library: the reader would wait for ever."""
    with make_topic(shared) as topic:
        send(shared, topic, (b"%d" % n for n in range(20)))
        source = KafkaSource(shared, topic, group(), PositionSet)
        assert len(poll_until(source, 5)) == 5
        # As when partitions were added: the group's leader sees another topic than the one it shared out.
        source._consumer._coordinator._is_leader = True
        source._consumer._coordinator._assignment_snapshot = {}
        assert source.poll(1, 0.0) == []
        time.sleep(0.5)
        assert [m.value for m in poll_until(source, 20, seconds=10.0)][-1] == b"19"
        source.close()


def test_a_broker_killed_while_frames_come_and_go_loses_none_and_doubles_none(mortal):
    count = 1_200
    values = [n.to_bytes(4, "big") * 500 for n in range(count)]
    with make_topic(mortal.plain, partitions=2) as topic:
        places: list[SourcePosition] = []
        producer = FrameProducer(
            mortal.plain,
            topic,
            ProducerRules(max_in_flight_bytes=100_000, seconds=90.0),
            lambda _n, p: places.append(p),
        )

        def produce() -> None:
            for number, value in enumerate(values):
                producer.send(Outgoing(value), str(number))
                time.sleep(0.001)
            producer.flush()

        def restart() -> None:
            while len(places) < count // 3:
                time.sleep(0.01)
            mortal.kill()
            mortal.start()

        threads = [threading.Thread(target=produce), threading.Thread(target=restart)]
        lake, members = Lake(), group()
        for thread in threads:
            thread.start()
        # The reader is another one halfway: the first leaves with messages that it did not commit.
        first = open_patiently(mortal.plain, topic, members, lake)
        work(first, lake, lambda: len(lake.values) >= count // 4, seconds=60.0)
        first.poll(50, 0.5)
        first.close()
        second = open_patiently(mortal.plain, topic, members, lake)
        work(second, lake, lambda: len(lake.values) >= count, seconds=90.0)
        for thread in threads:
            thread.join()
        producer.close()
        assert sum(second.lag().values()) == 0
        assert len(set(places)) == count
        assert sorted(lake.values) == sorted(values)
        log = KafkaLog(mortal.plain, topic)
        assert sum(end for _, end in log.list_ranges().values()) == count
        assert list(log.find_missing(lake.held)) == []
        log.close()
        mortal.kill()
        assert second.poll(5, 0.5) == []
        with pytest.raises(TransientError, match="cannot ask how far"):
            second.lag()
        second.close()


def open_patiently(connection: KafkaConnection, topic: str, members: str, lake: Lake) -> KafkaSource:
    deadline = time.monotonic() + 60
    while True:
        try:
            return KafkaSource(connection, topic, members, lake.positions)
        except OddframeError:
            if time.monotonic() > deadline:
                raise


def test_a_topic_is_made_once_and_a_name_that_cannot_be_one_is_refused(shared):
    with make_topic(shared) as topic:
        assert not create_topic(shared, topic)
    with pytest.raises(UsageError, match="letters, digits"):
        create_topic(shared, "no topic/")
