"""What every source must do, on a real Kafka: one place for a message for ever, and none lost or doubled."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator

import pytest
from kafka import KafkaProducer, TopicPartition

from pipeline.errors import TransientError, UnreadableFrameError, UsageError
from pipeline.ports import SourcePosition
from pipeline.source.connection import KafkaConnection, open_admin
from pipeline.source.dead_letters import DeadLetterSink, read_letters, resend
from pipeline.source.kafka import KafkaSource
from pipeline.source.kafka_group import PollRules
from pipeline.source.kafka_log import KafkaLog
from pipeline.source.messages import AGAIN_HEADER, MessageRules, read_message, write_raw
from pipeline.source.producer import FrameProducer, ProducerRules, feed_topic
from pipeline.store.positions import PositionSet
from tests.kafka_tools import Lake, make_topic, poll_until, send, work

Open = Callable[..., KafkaSource]


@pytest.fixture
def lake() -> Lake:
    return Lake()


@pytest.fixture
def join(broker, lake) -> Iterator[Open]:
    opened: list[KafkaSource] = []
    group = f"test-{secrets.token_hex(6)}"

    def join_group(topic: str, rules: PollRules | None = None, **more) -> KafkaSource:
        opened.append(KafkaSource(broker, topic, more.get("group", group), more.get("held", lake.positions), rules))
        return opened[-1]

    yield join_group
    for source in opened:
        source.close()


def values(count: int, start: int = 0) -> list[bytes]:
    return [b"%06d" % n for n in range(start, start + count)]


def test_a_message_has_its_place_and_its_headers(broker, topic, join):
    producer = FrameProducer(broker, topic)
    producer.send(write_raw(b"SIMPLE  = x", "a b.fits", {"FILTER": "V"}), "a")
    producer.flush()
    producer.close()
    (message,) = poll_until(join(topic), 1)
    assert message.position == SourcePosition(f"kafka:{topic}:0", 0)
    assert message.name == f"{topic}-0-0"
    frame = read_message(message.value, message.headers, MessageRules(100), name=message.name)
    assert (frame.name, frame.payload, dict(frame.metadata)) == ("a b.fits", b"SIMPLE  = x", {"FILTER": "V"})


def test_messages_come_in_order_and_places_only_grow(broker, topic, join):
    places = send(broker, topic, values(50))
    assert [place.offset for place in places] == list(range(50))
    got = poll_until(join(topic), 50)
    assert [message.value for message in got] == values(50)
    assert [message.position for message in got] == places


def test_what_the_lake_does_not_hold_comes_whatever_the_hint_says(broker, topic, join, lake):
    send(broker, topic, values(10))
    first = join(topic)
    got = poll_until(first, 10)
    lake.commit([got[0], got[1], got[5]])
    first.acknowledge([message.position for message in got])
    first.close()
    again = join(topic)
    assert [message.position.offset for message in poll_until(again, 7)] == [2, 3, 4, 6, 7, 8, 9]
    assert again.poll(10, 0.5) == []


def test_everything_comes_again_from_the_start_for_a_lake_that_is_empty(broker, topic, join, lake):
    send(broker, topic, values(5))
    source = join(topic)
    work(source, lake, lambda: len(lake.values) == 5)
    source.close()
    assert [m.value for m in poll_until(join(topic, held=PositionSet), 5)] == values(5)


def test_a_poll_is_bounded_in_messages_in_bytes_and_in_time(broker, topic, join):
    send(broker, topic, [bytes(100_000) for _ in range(20)] + [bytes(3_000_000)])
    source = join(topic, PollRules(max_bytes=350_000))
    assert len(poll_until(source, 2)) == 2
    sizes = []
    while sum(map(len, sizes)) < 19:
        sizes.append([message.size for message in source.poll(100, 5.0)])
    assert all(sum(batch) <= 350_000 or len(batch) == 1 for batch in sizes)
    assert sum(map(len, sizes)) == 19
    assert sizes[-1] == [3_000_000]
    assert source.poll(10, 0.3) == []


def test_lag_is_what_is_not_acknowledged(broker, topic, join, lake):
    send(broker, topic, values(10))
    source, name = join(topic), f"kafka:{topic}:0"
    got = poll_until(source, 4)
    assert source.lag() == {name: 10}
    source.acknowledge([message.position for message in got[:3]])
    assert source.lag() == {name: 7}
    lake.commit(got[:3])
    log = KafkaLog(broker, topic)
    (standing,) = log.list_standings(lake.held)
    assert (standing.begin, standing.end, standing.next, standing.lag, standing.expired) == (0, 10, 3, 7, 0)
    log.close()


def test_acknowledging_tells_the_group_how_far_everything_is_done(broker, topic, join):
    send(broker, topic, values(10))
    source = join(topic)
    got = poll_until(source, 10)
    source.acknowledge([got[n].position for n in (0, 1, 2, 5)])
    partition = next(iter(source._ours))
    assert source.still_mine([message.position for message in got]) == {got[n].position for n in (3, 4, 6, 7, 8, 9)}
    assert source._consumer.committed(partition) == 3
    source.acknowledge([message.position for message in got])
    assert source.still_mine([message.position for message in got]) == set()
    assert source._consumer.committed(partition) == 10


def test_what_is_polled_stays_mine_until_it_is_acknowledged_or_taken_away(broker, join, lake):
    with make_topic(broker, partitions=4) as topic:
        send(broker, topic, (bytes([n]) * 2_000 for n in range(200)), ProducerRules(max_in_flight_bytes=5_000))
        first = join(topic)
        got = poll_until(first, 200)
        assert len({message.position.partition for message in got}) == 4
        places = [message.position for message in got]
        assert first.still_mine(places) == set(places)
        second, theirs = join(topic), Lake()
        thread = threading.Thread(target=work, args=(second, theirs, lambda: len(theirs.values) > 0))
        thread.start()
        # The group waits for the first reader to come back before it gives anything to the second.
        again: list = []
        while thread.is_alive():
            again += first.poll(50, 0.2)
        thread.join()
        assert first.still_mine(places) == {message.position for message in again}
        assert first.still_mine(places).isdisjoint(
            SourcePosition(f"kafka:{topic}:{n}", o)
            for n in range(4)
            for o in range(200)
            if theirs.held.holds(SourcePosition(f"kafka:{topic}:{n}", o))
        )


def test_two_readers_of_a_group_commit_everything_once_though_one_goes_and_comes(broker, join, lake):
    count, lock = 800, threading.Lock()

    class Shared(Lake):
        def commit(self, messages) -> None:
            with lock:
                super().commit(messages)

    shared = Shared()
    with make_topic(broker, partitions=4) as topic:
        send(broker, topic, (n.to_bytes(4, "big") * 250 for n in range(count)))
        readers = [join(topic, held=shared.positions) for _ in range(2)]
        done = [
            threading.Thread(target=work, args=(readers[0], shared, lambda: len(shared.values) >= count)),
            threading.Thread(target=work, args=(readers[1], shared, lambda: len(shared.values) >= count // 3)),
        ]
        for thread in done:
            thread.start()
        done[1].join()
        readers[1].close()
        late = join(topic, held=shared.positions)
        work(late, shared, lambda: len(shared.values) >= count)
        done[0].join()
        assert len(shared.values) == count
        assert len(set(shared.values)) == count
        assert late.poll(10, 0.3) == []


def test_a_reader_that_was_silent_too_long_learns_that_nothing_is_its_own(broker, topic, join, lake):
    send(broker, topic, values(20))
    silent = join(topic, PollRules(busy_seconds=1.0, session_seconds=6.0))
    got = poll_until(silent, 10)
    other = join(topic, PollRules(session_seconds=6.0))
    # Its heartbeats go on, but it does not poll: the group does not wait for ever.
    work(other, lake, lambda: len(lake.values) == 20, seconds=20.0)
    assert len(lake.values) == 20
    assert silent.still_mine([message.position for message in got]) == set()
    other.close()
    assert silent.poll(20, 2.0) == []


def transact(broker: KafkaConnection, topic: str, batches: list[tuple[list[bytes], bool]]) -> None:
    producer = KafkaProducer(**broker.options(), transactional_id=secrets.token_hex(6))
    producer.init_transactions()
    for contents, keep in batches:
        producer.begin_transaction()
        for content in contents:
            producer.send(topic, content)
        producer.flush()
        if keep:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    producer.close()


def test_places_without_a_message_are_passed_over_and_leave_no_hole(broker, topic, join, lake):
    batches = [(values(3), True), (values(2, 50), False), (values(3, 3), True), (values(1, 60), False)]
    transact(broker, topic, [*batches, (values(2, 6), True)])
    source = join(topic)
    work(source, lake, lambda: len(lake.values) == 8)
    assert lake.values == values(8)
    assert source.poll(1, 0.5) == []
    assert source.lag() == {f"kafka:{topic}:0": 0}
    # 8 messages, 3 aborted ones, 5 ends of transactions; the last end is no message's forerunner yet.
    assert lake.held == PositionSet().add(SourcePosition(f"kafka:{topic}:0", n) for n in range(15))
    log = KafkaLog(broker, topic)
    assert log.list_ranges() == {f"kafka:{topic}:0": (0, 16)}
    assert [p.offset for p in log.find_missing(PositionSet())] == [0, 1, 2, 7, 8, 9, 13, 14]
    assert list(log.find_missing(lake.held)) == []
    assert log.find(SourcePosition(f"kafka:{topic}:0", 4)) is None
    log.close()


def test_a_log_names_what_the_lake_lacks_of_it(broker, topic, lake):
    places = send(broker, topic, values(40))
    log = KafkaLog(broker, topic)
    held = PositionSet().add(place for place in places if place.offset not in {0, 7, 8, 39})
    assert [place.offset for place in log.find_missing(held)] == [0, 7, 8, 39]
    assert list(log.find_missing(PositionSet().add(places))) == []
    found = log.find(places[7])
    assert found is not None
    assert (found.value, found.position) == (b"000007", places[7])
    assert log.find(SourcePosition(places[0].partition, 40)) is None
    with pytest.raises(UsageError, match="no partition"):
        next(log.read(f"kafka:{topic}:9", 0, 1))
    log.close()


def delete_records(broker: KafkaConnection, topic: str, before: int) -> None:
    admin = open_admin(broker)
    admin.delete_records({TopicPartition(topic, 0): before})
    admin.close()


def test_messages_that_retention_took_are_counted_and_said(broker, topic, join, lake):
    send(broker, topic, values(30))
    source = join(topic)
    work(source, lake, lambda: len(lake.values) >= 8)
    read = len(lake.values)
    source.close()
    delete_records(broker, topic, 25)
    log = KafkaLog(broker, topic)
    (standing,) = log.list_standings(lake.held)
    assert (standing.begin, standing.next, standing.expired) == (25, max(25, read), max(0, 25 - read))
    assert log.list_standings(PositionSet())[0].expired == 0
    log.close()
    again = join(topic)
    assert [m.value for m in poll_until(again, 5)] == values(5, 25)
    assert again.expired == ({f"kafka:{topic}:0": 25 - read} if read < 25 else {})


def test_messages_that_retention_takes_while_they_are_read_are_counted(broker, topic, join):
    send(broker, topic, values(5))
    source = join(topic)
    assert len(poll_until(source, 5)) == 5
    (state,) = source._ours.values()
    send(broker, topic, values(20, 5))
    delete_records(broker, topic, 20)
    got = poll_until(source, 5)
    # The library may have fetched some before they were deleted; then those come, and none is missing.
    got += source.poll(20, 1.0)
    assert [m.value for m in got][-5:] == values(5, 20)
    assert len(got) + source.expired.get(f"kafka:{topic}:0", 0) == 20
    assert state.empty == []


def test_a_topic_that_is_not_there_is_named(broker, join):
    for make in (join, lambda name: KafkaLog(broker, name), lambda name: FrameProducer(broker, name)):
        with pytest.raises(UsageError, match="no topic test-nowhere"):
            make("test-nowhere")


def test_a_store_that_does_not_answer_when_partitions_come_loses_nothing(broker, topic, join, lake):
    send(broker, topic, values(5))
    fails = [True, True]

    def ask() -> PositionSet:
        if fails:
            fails.pop()
            raise TransientError("the lake is away")
        return lake.held

    source = join(topic, held=ask)
    failed = 0
    got: list = []
    while len(got) < 5:
        try:
            got += source.poll(5, 1.0)
        except TransientError:
            failed += 1
    assert failed == 2
    assert [message.value for message in got] == values(5)


def test_a_dead_letter_is_kept_whole_and_can_be_sent_again(broker, topic, join, lake):
    hostile = b"\x00\xff not a frame"
    producer = FrameProducer(broker, topic)
    producer.send(write_raw(hostile, "x.fits", {"FILTER": "ä"}), "x")
    producer.flush()
    (message,) = poll_until(join(topic), 1)
    with make_topic(broker) as graveyard:
        sink = DeadLetterSink(broker, graveyard, topic)
        sink.write(message, UnreadableFrameError("not_fits", "neither\nnor 'ä' \x00"))
        sink.flush()
        sink.close()
        (letter,) = read_letters(broker, graveyard)
        assert (letter.value, letter.headers) == (hostile, message.headers)
        assert (letter.code, letter.reason) == ("not_fits", r"neither\nnor 'ä' \x00")
        assert letter.position == message.position
        assert letter.place is not None
        assert list(read_letters(broker, graveyard, PositionSet().add([letter.place]))) == []
        producer.send(resend(letter), "x")
        producer.flush()
    (again,) = poll_until(join(topic, group="other", held=lambda: PositionSet().add([message.position])), 1)
    # That it is tried once more is said, for its content is known by now.
    assert (again.value, again.headers) == (message.value, (*message.headers, (AGAIN_HEADER, b"yes")))
    producer.close()


def test_frames_are_fed_at_a_cadence_and_large_ones_as_claim_checks(broker, topic, join, tmp_path):
    night = tmp_path / "night"
    night.mkdir()
    sizes = [2_880, 50_000, 2_880, 60_000, 2_880]
    for number, size in enumerate(sizes):
        (night / f"n{number}.fits").write_bytes(b"SIMPLE  =" + bytes([number]) * (size - 9))
    claims, waits, sent = tmp_path / "claims", [], []
    producer = FrameProducer(
        broker, topic, ProducerRules(claim_above=10_000, claim_directory=claims), lambda name, _place: sent.append(name)
    )
    assert feed_topic(sorted(night.iterdir()), producer, 2.0, waits.append, burst=2) == 5
    producer.close()
    assert (waits, sent) == ([2.0, 2.0], [f"n{n}.fits" for n in range(5)])
    rules = MessageRules(100_000, (claims,))
    frames = [read_message(m.value, m.headers, rules, name=m.name) for m in poll_until(join(topic), 5)]
    assert [(frame.name, frame.size, frame.form.value) for frame in frames] == [
        (f"n{n}.fits", size, "claim" if size > 10_000 else "raw") for n, size in enumerate(sizes)
    ]
    for frame in frames:
        assert frame.payload == (night / frame.name).read_bytes()
    with pytest.raises(UsageError, match="no sense"):
        feed_topic([], producer, -1.0)
