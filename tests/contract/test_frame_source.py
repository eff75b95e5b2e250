"""A source gives every message one position, for ever, whatever is killed in between."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.errors import StoreError, TransientError
from pipeline.ports import SourcePosition
from pipeline.source.spool import SpoolSource
from pipeline.store.positions import PositionSet
from tests import children


@pytest.fixture
def source(tmp_path) -> Iterator[SpoolSource]:
    opened = SpoolSource(tmp_path / "home" / "spool.db")
    yield opened
    opened.close()


def message(directory: Path, number: int, content: int | None = None) -> tuple[Path, str, int]:
    return directory / f"n{number}.fits", f"{number if content is None else content:064x}", 100 + number


def numbers(raws) -> list[int]:
    return [raw.position.offset for raw in raws]


def test_messages_are_numbered_in_order_from_zero_in_each_directory(source, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    assert numbers(source.enrol([message(a, 0), message(b, 0), message(a, 1)])) == [0, 0, 1]
    assert numbers(source.enrol([message(b, 1), message(a, 2)])) == [1, 2]
    partitions = {raw.position.partition for raw in source.messages()}
    assert partitions == {f"spool:{a}", f"spool:{b}"}


def test_a_message_keeps_its_number_and_the_time_it_came(source, tmp_path):
    first = source.enrol([message(tmp_path, n) for n in range(3)])
    again = source.enrol([message(tmp_path, n) for n in (2, 0, 1, 2)])
    assert numbers(again) == [2, 0, 1, 2]
    assert again[1].received_at == first[0].received_at
    assert numbers(source.messages()) == [0, 1, 2]


def test_a_file_rewritten_under_its_old_name_is_a_new_message(source, tmp_path):
    assert numbers(source.enrol([message(tmp_path, 0), message(tmp_path, 0, content=9)])) == [0, 1]
    assert numbers(source.enrol([message(tmp_path, 0)])) == [0]


def test_the_same_content_under_two_names_is_two_messages(source, tmp_path):
    assert numbers(source.enrol([message(tmp_path, 0, content=5), message(tmp_path, 1, content=5)])) == [0, 1]


def test_a_message_comes_back_whole(source, tmp_path):
    (raw,) = source.enrol([(tmp_path / "ä 'b' \"c\";--.fits", "f" * 64, 2**40)])
    (read,) = source.messages()
    assert read == raw
    assert (read.name, read.size, read.path) == ("ä 'b' \"c\";--.fits", 2**40, tmp_path / "ä 'b' \"c\";--.fits")


def test_what_the_lake_does_not_hold_is_pending_oldest_first(source, tmp_path):
    raws = source.enrol([message(tmp_path, n) for n in range(5)])
    held = PositionSet().add([raws[0].position, raws[3].position])
    assert numbers(source.pending(held)) == [1, 2, 4]
    assert source.pending(PositionSet().add(raw.position for raw in raws)) == []


def test_acknowledging_is_a_hint_and_takes_nothing_away(source, tmp_path):
    raws = source.enrol([message(tmp_path, n) for n in range(2)])
    source.acknowledge([raw.position for raw in raws])
    assert numbers(source.pending(PositionSet())) == [0, 1]


def test_numbers_go_on_after_closing_and_opening(tmp_path):
    first = SpoolSource(tmp_path / "spool.db")
    first.enrol([message(tmp_path, n) for n in range(3)])
    first.close()
    again = SpoolSource(tmp_path / "spool.db")
    assert numbers(again.enrol([message(tmp_path, 3), message(tmp_path, 1)])) == [3, 1]
    again.close()


def test_a_journal_that_was_lost_does_not_reuse_numbers_the_lake_holds(source, tmp_path):
    held = PositionSet().add(SourcePosition(f"spool:{tmp_path}", n) for n in range(7))
    source.pending(held)
    assert numbers(source.enrol([message(tmp_path, n) for n in range(3)])) == [7, 8, 9]


def test_a_name_that_is_no_text_is_numbered_like_any_other(source, tmp_path):
    path = tmp_path / os.fsdecode(b"bad\xff\xfe.fits")
    assert numbers(source.enrol([(path, "1" * 64, 3), message(tmp_path, 1)])) == [0, 1]
    assert numbers(source.enrol([(path, "1" * 64, 3)])) == [0]
    assert all(raw.name.encode() for raw in source.messages())


def enrol_and_die(journal: Path, directory: Path) -> None:
    source = SpoolSource(journal)
    source.enrol([message(directory, n) for n in range(4)])
    os._exit(9)


def die_while_enrolling(journal: Path, directory: Path) -> None:
    source = SpoolSource(journal)

    class Fatal(list):
        def __iter__(self):
            yield from (message(directory, n) for n in range(10, 12))
            os._exit(9)

    source.enrol(Fatal())


def enrol_many(journal: Path, directory: Path, start: int) -> None:
    source = SpoolSource(journal)
    for number in range(start, start + 30):
        source.enrol([message(directory, number)])
    source.close()


def test_a_kill_loses_no_number_that_was_given_and_gives_none_by_halves(tmp_path):
    journal = tmp_path / "spool.db"
    assert children.run(enrol_and_die, journal, tmp_path) == 9
    assert children.run(die_while_enrolling, journal, tmp_path) == 9
    source = SpoolSource(journal)
    assert [raw.name for raw in source.messages()] == [f"n{n}.fits" for n in range(4)]
    assert numbers(source.enrol([message(tmp_path, 11), message(tmp_path, 2)])) == [4, 2]
    source.close()


def test_processes_that_enrol_at_once_never_share_a_number(tmp_path):
    writers = [children.start(enrol_many, tmp_path / "spool.db", tmp_path, start) for start in (0, 100, 200)]
    assert [children.finish(writer) for writer in writers] == [0, 0, 0]
    source = SpoolSource(tmp_path / "spool.db")
    assert numbers(source.messages()) == list(range(90))
    assert len({raw.name for raw in source.messages()}) == 90
    source.close()


def test_a_directory_lists_what_changed_and_passes_over_what_is_no_finished_file(source, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "directory.fits").mkdir()
    os.mkfifo(spool / "pipe.fits")
    (spool / "dangling.fits").symlink_to(spool / "nowhere")
    for name in ("b.fits", "a.fits", ".being-written.part"):
        (spool / name).write_bytes(b"x")
    assert [path.name for path in source.list_new(spool)] == ["a.fits", "b.fits"]
    source.mark_seen([spool / "a.fits"])
    assert [path.name for path in source.list_new(spool)] == ["b.fits"]
    os.utime(spool / "a.fits", ns=(1, 1))
    assert [path.name for path in source.list_new(spool)] == ["a.fits", "b.fits"]


def test_a_file_rewritten_while_its_batch_was_under_way_is_listed_again(source, tmp_path):
    path = tmp_path / "a.fits"
    path.write_bytes(b"first")
    listed = source.list_new(tmp_path)
    path.write_bytes(b"second, and longer")
    source.mark_seen(listed)
    assert path in source.list_new(tmp_path)


def test_a_name_that_is_no_text_can_be_seen(source, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / os.fsdecode(b"bad\xff.fits")).write_bytes(b"x")
    listed = source.list_new(spool)
    source.mark_seen(listed)
    assert (len(listed), source.list_new(spool)) == (1, [])


def test_marking_a_file_that_is_gone_is_harmless(source, tmp_path):
    source.mark_seen([tmp_path / "gone.fits"])
    assert source.list_new(tmp_path / "home") != [tmp_path / "gone.fits"]


def test_a_look_at_a_spool_reads_only_what_is_new_whatever_was_seen_before(source, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    gone = ((str(spool / f"gone{n}.fits"), 1, n) for n in range(100_000))
    source._database.executemany("insert into seen values (?, ?, ?)", gone)
    for number in range(50):
        (spool / f"n{number:02}.fits").write_bytes(b"x")
    source.mark_seen(source.list_new(spool))
    reads: list[str] = []
    again = SpoolSource(tmp_path / "home" / "spool.db")
    again._database.set_trace_callback(reads.append)
    assert again.list_new(spool) == []
    assert len(reads) == 50
    assert all(" where path = " in read for read in reads)
    reads.clear()
    (spool / "new.fits").write_bytes(b"x")
    assert [path.name for path in again.list_new(spool)] == ["new.fits"]
    assert len(reads) == 1
    reads.clear()
    again.mark_seen([spool / "new.fits"])
    reads.clear()
    (spool / "n07.fits").write_bytes(b"another")
    (spool / "n08.fits").unlink()
    for _ in range(3):
        assert [path.name for path in again.list_new(spool)] == ["n07.fits"]
    assert reads == []
    again.close()


def test_a_file_that_was_away_and_is_back_as_it_was_is_still_seen(source, tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "a.fits").write_bytes(b"x")
    source.mark_seen(source.list_new(spool))
    (spool / "a.fits").rename(tmp_path / "a.fits")
    assert source.list_new(spool) == []
    (tmp_path / "a.fits").rename(spool / "a.fits")
    assert source.list_new(spool) == []


def use_in_every_way(source: SpoolSource, directory: Path) -> list[Callable[[], object]]:
    return [
        lambda: source.enrol([message(directory, 77)]),
        lambda: source.pending(PositionSet()),
        lambda: list(source.messages()),
        lambda: source.list_new(directory),
        lambda: source.mark_seen([directory / "a.fits"]),
    ]


def test_a_journal_that_is_locked_is_a_fault_that_passes(source, tmp_path):
    (tmp_path / "a.fits").write_bytes(b"x")
    source._database.execute("pragma busy_timeout=10")
    with closing(sqlite3.connect(tmp_path / "home" / "spool.db", isolation_level=None)) as other:
        other.execute("begin immediate")
        for write in (lambda: source.enrol([message(tmp_path, 1)]), lambda: source.mark_seen([tmp_path / "a.fits"])):
            with pytest.raises(TransientError, match=r"spool\.db"):
                write()
        other.execute("rollback")
    assert numbers(source.enrol([message(tmp_path, 1)])) == [0]
    source.mark_seen([tmp_path / "a.fits"])


def test_a_journal_on_a_full_disk_is_a_fault_that_passes(source, tmp_path):
    (pages,) = source._database.execute("pragma page_count").fetchone()
    source._database.execute(f"pragma max_page_count={pages}")
    with pytest.raises(TransientError, match="full"):
        source.enrol([message(tmp_path, n) for n in range(5000)])
    source._database.execute("pragma max_page_count=100000")
    assert numbers(source.enrol([message(tmp_path, n) for n in range(3)])) == [0, 1, 2]


def test_a_damaged_journal_is_told_and_says_what_to_do(tmp_path):
    journal = tmp_path / "spool.db"
    (tmp_path / "a.fits").write_bytes(b"x")
    whole = SpoolSource(journal)
    whole.enrol([message(tmp_path, n) for n in range(2000)])
    whole.close()
    content = journal.read_bytes()
    journal.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    damaged = SpoolSource(journal)
    for use in use_in_every_way(damaged, tmp_path):
        with pytest.raises(StoreError, match=r"move .*spool\.db"):
            use()
    damaged.close()
    journal.write_bytes(b"this is no database" * 1000)
    with pytest.raises(StoreError, match=r"move .*spool\.db"):
        SpoolSource(journal)


def test_a_journal_that_cannot_be_opened_is_a_fault_that_passes(tmp_path):
    (tmp_path / "spool.db").mkdir()
    with pytest.raises(TransientError, match=r"spool\.db"):
        SpoolSource(tmp_path / "spool.db")


def test_threads_may_not_break_a_journal(tmp_path):
    def enrol(start: int) -> None:
        enrol_many(tmp_path / "spool.db", tmp_path, start)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(enrol, (0, 100, 200)))
    source = SpoolSource(tmp_path / "spool.db")
    assert numbers(source.messages()) == list(range(90))
    source.close()
