"""A Kafka topic as a source of frames: where to begin is what the lake says, a consumer group shares the partitions.

Offsets committed to Kafka are a hint for dashboards. A partition that is assigned is read from the first offset that
the lake does not hold, asked at that moment; one that is taken away takes what was polled from it along: `still_mine`
says what may be committed. One thread polls, asks, commits to the lake and acknowledges; then no message that somebody
else commits passes `still_mine`, for a group hands a partition on only while its old reader is inside `poll`.

Partitions are never paused: kafka-python 3.0.12 forgets what it had fetched for one that was. Who is busy does not
poll; heartbeats go on in the background for as long as `PollRules.busy_seconds`. Only where the end of a poll cuts a
join of the group in two do they rest until the next poll: who is busy longer than `PollRules.session_seconds` then
joins anew.

A topic made anew under its name is refused where that shows: by its identity while it is read, later by an end before
what the lake holds. One that has grown past that between two readers cannot be told from the old one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import OffsetAndMetadata, TopicPartition
from kafka.errors import CommitFailedError, KafkaError, RebalanceInProgressError
from kafka.structs import MemberState

from pipeline.errors import StoreError
from pipeline.ports import Positions, SourcePosition
from pipeline.source.connection import KafkaConnection, explain
from pipeline.source.kafka_group import Listener, Partition, PollRules, Waiting
from pipeline.source.kafka_messages import (
    OTHER_LOG,
    KafkaMessage,
    count_expired,
    find_first_missing,
    require_same_log,
)
from pipeline.source.kafka_records import open_consumer
from pipeline.source.kafka_rest import Rest
from pipeline.source.places import name_partition, split_partition
from pipeline.source.topics import identify_topic, require_topic

_LOG = logging.getLogger(__name__)
_FETCH_BYTES = 48 * 1024 * 1024
_PARTITION_FETCH_BYTES = 8 * 1024 * 1024
_ANSWER_MS = 10_000
_CLOSE_MS = 3_000
_PAUSE_SECONDS = 0.2
_ASK_SECONDS = 30.0
"""A broker that was killed is back by then."""


class KafkaSource:
    """Reads a topic as a member of a group; see the module's text. Not for more than one thread."""

    def __init__(
        self,
        connection: KafkaConnection,
        topic: str,
        group: str,
        held: Callable[[], Positions],
        rules: PollRules | None = None,
    ) -> None:
        """Join the group; partitions come with the first polls.

        Args:
            connection: the cluster.
            topic: its topic, which must be there.
            group: readers of one group share the partitions.
            held: reads from the lake which positions it holds now; asked whenever partitions are assigned.
            rules: sizes and times.

        Raises:
            UsageError: credentials are refused, or there is no such topic for this user.
            TransientError: the cluster does not answer.
        """
        self._topic = topic
        self._read_held = held
        self._rules = rules or PollRules()
        self._ours: dict[TopicPartition, Partition] = {}
        self._ready = Waiting()
        self._rest = Rest(connection, topic)
        self._closed = False
        self._unplaced: set[TopicPartition] = set()
        self.expired: dict[str, int] = {}
        """Messages that retention deleted before they were read, by partition."""
        self._consumer = open_consumer(
            connection,
            group_id=group,
            fetch_max_bytes=_FETCH_BYTES,
            max_partition_fetch_bytes=_PARTITION_FETCH_BYTES,
            max_poll_interval_ms=int(self._rules.busy_seconds * 1000),
            session_timeout_ms=int(self._rules.session_seconds * 1000),
        )
        try:
            self._consumer.subscribe([topic], listener=Listener(self._lose, self._unplaced.update))
            # In this order: a reader that joins before it knows the topic's partitions joins twice.
            require_topic(self._consumer, topic)
            self._identity = identify_topic(self._consumer, topic)
        except BaseException:
            self.close()
            raise

    def poll(self, max_messages: int, seconds: float) -> list[KafkaMessage]:
        """Messages that the lake does not hold, in order in each partition.

        Returns when there are `max_messages`, when they are `PollRules.max_bytes` large, or after so many seconds with
        what there is. A cluster that is away gives nothing; it is connected to again within a second of its return.

        Raises:
            UsageError: we may not read the topic.
            StoreError: the topic is not the one that the lake was filled from.
            TransientError: the cluster or the lake cannot answer; nothing is lost, poll again.
        """
        deadline = time.monotonic() + seconds
        while len(self._ready) < max_messages and self._ready.size < self._rules.max_bytes:
            left = max(0.0, deadline - time.monotonic())
            self._fetch(max_messages - len(self._ready), left)
            if not left:
                break
        return self._ready.take(max_messages, self._rules.max_bytes)

    def still_mine(self, positions: Iterable[SourcePosition]) -> set[SourcePosition]:
        """Those of the positions that were polled here, are not acknowledged, and nobody else may read now.

        The group is asked, so that a process that was suspended learns what it missed.

        Raises:
            TransientError: the group could not be asked for half a minute; ask again.
        """
        deadline = time.monotonic() + _ASK_SECONDS
        while not self._ask_group(time.monotonic() > deadline):
            time.sleep(_PAUSE_SECONDS)
        mine = {
            SourcePosition(name_partition(*partition), offset)
            for partition, state in self._ours.items()
            for offset in state.in_flight
        }
        return mine.intersection(positions)

    def acknowledge(self, positions: Sequence[SourcePosition]) -> None:
        """Tell the group how far we are: a hint, sent and not waited for."""
        for position in positions:
            state = self._ours.get(TopicPartition(*split_partition(position.partition)))
            if state is not None:
                state.in_flight.discard(position.offset)
        with suppress(KafkaError):
            self._consumer.commit_async(self._list_done())

    def lag(self) -> dict[str, int]:
        """Messages not acknowledged yet, by partition that is ours.

        Raises:
            TransientError: the cluster does not answer.
        """
        try:
            ends = self._consumer.end_offsets(list(self._ours), timeout_ms=_ANSWER_MS) if self._ours else {}
            read = {part: self._consumer.position(part, timeout_ms=_ANSWER_MS) or 0 for part in ends}
        except KafkaError as error:
            raise explain(error, f"cannot ask how far {self._topic} reaches") from error
        return {
            name_partition(*part): max(0, end - max(read[part], self._ours[part].next))
            + len(self._ours[part].in_flight)
            for part, end in sorted(ends.items())
        }

    def ends(self) -> dict[str, int]:
        """By partition, all of them, the offset after the last message that may be read.

        Raises:
            TransientError: the cluster does not answer.
        """
        try:
            ends = self._consumer.end_offsets(require_topic(self._consumer, self._topic), timeout_ms=_ANSWER_MS)
        except KafkaError as error:
            raise explain(error, f"cannot ask how far {self._topic} reaches") from error
        return {name_partition(*part): end for part, end in ends.items()}

    def has_read(self, ends: Mapping[str, int]) -> bool:
        """Whether every message before these offsets is acknowledged here, or in the lake, whoever brought it there.

        Raises:
            StoreError: the topic is not the one that the lake was filled from.
            TransientError: the cluster does not answer.
        """
        lag = self.lag()
        return self._rest.is_empty(
            self._read_held(), {partition: end for partition, end in ends.items() if lag.get(partition) != 0}
        )

    def close(self) -> None:
        """Leave the group; its other readers have the partitions at once. May be called twice."""
        if self._closed:
            return
        self._closed = True
        with suppress(KafkaError):
            self._consumer.commit(self._list_done(), timeout_ms=_CLOSE_MS)
        with suppress(KafkaError):
            self._consumer.close(autocommit=False, timeout_ms=_CLOSE_MS)
        self._rest.close()

    def _ask_group(self, for_the_last_time: bool) -> bool:
        """Say to the group how far we are, as the member we think we are; where we are not, everything is lost."""
        try:
            self._consumer.commit(self._list_done(), timeout_ms=_ANSWER_MS)
        except (CommitFailedError, RebalanceInProgressError):
            self._lose(set(self._ours))
        except KafkaError as error:
            if for_the_last_time or not error.retriable:
                raise explain(error, f"cannot ask the group that reads {self._topic}") from error
            return False
        return True

    def _fetch(self, most: int, seconds: float) -> None:
        try:
            self._place()
            self._finish_rebalance()
            batches = self._consumer.poll(timeout_ms=int(seconds * 1000), max_records=most)
            # What came of one that was assigned just now was read from where the hint was.
            ours = {partition: records for partition, records in batches.items() if partition in self._ours}
            begins = self._ask_begins(ours)
        except KafkaError as error:
            if not error.retriable:
                raise explain(error, f"cannot read topic {self._topic}") from error
            # The cluster is away, or changes places; the library tries again with the next poll.
            time.sleep(min(seconds, _PAUSE_SECONDS))
            return
        self._require_same_topic()
        for partition, records in ours.items():
            self._accept(partition, records, begins.get(partition, 0))

    def _finish_rebalance(self) -> None:
        """Have a rebalance gone on with that the end of a poll cut in two.

        kafka-python 3.0.12 forgets one that a change of the topic began: the reader stays without partitions for ever.
        """
        if self._consumer.group_metadata().state == MemberState.REBALANCING:
            self._consumer._coordinator.request_rejoin()  # noqa: SLF001 - there is no other way to ask

    def _require_same_topic(self) -> None:
        """Refuse another topic of this name, whose messages would be taken for those that the lake holds."""
        identity = identify_topic(self._consumer, self._topic)
        if self._identity is None:
            self._identity = identity
        elif identity not in (None, self._identity):
            raise StoreError(f"topic {self._topic} is not the one it was when reading began: {OTHER_LOG}")

    def _place(self) -> None:
        """Have every newly assigned partition read from the first offset that the lake does not hold."""
        new = sorted(self._unplaced & self._consumer.assignment())
        if new:
            held = self._read_held()
            begins = self._consumer.beginning_offsets(new, timeout_ms=_ANSWER_MS)
            ends = self._consumer.end_offsets(new, timeout_ms=_ANSWER_MS)
            for partition in new:
                name = name_partition(*partition)
                require_same_log(held, name, ends[partition])
                first = find_first_missing(held, name, begins[partition], ends[partition])
                self._consumer.seek(partition, first)
                self._note_expired(name, count_expired(held, name, begins[partition]))
                self._ours[partition] = Partition(name, held, first)
        self._unplaced.clear()

    def _ask_begins(self, batches: Mapping[TopicPartition, Sequence[Any]]) -> dict[TopicPartition, int]:
        """The oldest offset kept in those partitions where offsets are left out: retention may have taken them."""
        gaps = [partition for partition, records in batches.items() if self._ours[partition].leaves_out(records)]
        try:
            return dict(self._consumer.beginning_offsets(gaps, timeout_ms=_ANSWER_MS)) if gaps else {}
        except KafkaError:
            # The library is past them all: without this they would not come again.
            for partition in batches:
                self._consumer.seek(partition, self._ours[partition].next)
            raise

    def _accept(self, partition: TopicPartition, records: Sequence[Any], begin: int) -> None:
        state = self._ours[partition]
        for record in records:
            self._note_expired(state.name, state.pass_over(record.offset, begin))
            message = state.accept(record)
            if message is not None:
                self._ready.append(message)

    def _note_expired(self, partition: str, count: int) -> None:
        if count > 0:
            self.expired[partition] = self.expired.get(partition, 0) + count
            _LOG.warning("%s: retention deleted up to %d messages before they were read", partition, count)

    def _lose(self, partitions: set[TopicPartition]) -> None:
        for partition in partitions:
            self._ours.pop(partition, None)
        self._unplaced -= partitions
        self._ready.drop(partitions)

    def _list_done(self) -> dict[TopicPartition, OffsetAndMetadata]:
        return {partition: OffsetAndMetadata(state.done, "", -1) for partition, state in self._ours.items()}
