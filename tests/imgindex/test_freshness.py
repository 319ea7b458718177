"""Every search sees every acknowledged write: across processes, and whatever happened to the log."""

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from django.conf import settings
from django.db import connection, connections

from benchmarks import freshness
from imgindex.services import catalogue, describe, sync
from imgindex.services.access import DEFAULT_TENANT
from imgindex.services.describe import FromUpload
from imgindex.services.sync import Replica, State
from imgindex.store import changes, codes, images
from imgindex.store.images import Media
from imgindex.types import Caller, Written
from matching.types import Description
from tests.pictures import encoded, flat

pytestmark = pytest.mark.usefixtures("default_collection")

CALLER = Caller(DEFAULT_TENANT)
COLLECTION = "default"

T = TypeVar("T")
Contents = dict[int, dict[str, set[tuple[int, bytes]]]]


@pytest.fixture(scope="module", autouse=True)
def _decode_pool() -> Iterator[None]:
    yield
    describe.stop_pool()


def put(image_id: str, data: bytes) -> Written:
    return catalogue.image_put(
        caller=CALLER, collection=COLLECTION, source=FromUpload(io.BytesIO(data)), image_id=image_id
    )


def put_picture(image_id: str, number: int) -> Written:
    return put(image_id, freshness.pictures()[number].data)


def put_codes(image_id: str, seed: int, *, quality: int = 100) -> int:
    """Put an image of seeded random codes without decoding anything; its number."""
    rng = np.random.default_rng(seed)
    description = Description(
        width=1,
        height=1,
        format="PNG",
        size=1,
        sha256=rng.bytes(32).hex(),
        fingerprints={name: rng.bytes(codes.bits(name) // 8) for name in codes.NAMES},
        quality=quality,
        thumbnail=b"",
    )
    collection = catalogue.collection_get(caller=CALLER, name=COLLECTION).id
    with changes.write() as log:
        stored = images.upsert(
            collection=collection,
            image_id=image_id,
            source_url="",
            metadata={},
            description=description,
            recipe=1,
            media=Media("", ""),
        )
        log.record("p", collection=collection, images=[stored.image.pk])
    return stored.image.pk


def execute(sql: str, parameters: Sequence[object] = ()) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else []


def rewind(seq: int) -> None:
    """What a restored backup does: the log ends at `seq`, and what was written after it is not there."""
    execute(
        "DELETE FROM imgindex_image WHERE id IN (SELECT image FROM imgindex_change WHERE seq > %s AND op = 'p')",
        [seq],
    )
    execute("DELETE FROM imgindex_change WHERE seq > %s", [seq])


def write_log_row(seq: int, token: int) -> None:
    collection = catalogue.collection_get(caller=CALLER, name=COLLECTION).id
    execute(
        "INSERT INTO imgindex_change (seq, token, collection, image, op) VALUES (%s, %s, %s, 0, 'd')",
        [seq, token, collection],
    )


def indexed(state: State) -> Contents:
    """What the indexes hold, as far as the database's own codes can ask: every pair of number and code, and no more."""
    held: Contents = {}
    rows = execute("SELECT collection_id, id, pdq, phash, dhash, ahash FROM imgindex_image")
    for collection, indexes in state.indexes.items():
        for i, (name, index) in enumerate(indexes.items()):
            pairs = set()
            for row in rows:
                code = codes.code_from_text(row[2 + i])
                matches = index.within(np.frombuffer(code, dtype=np.uint8)[None], 0)[0]
                pairs |= {(pk, code) for pk in matches.ids.tolist()}
            assert len(pairs) == len(index), f"{name} holds codes that no image has"
            if pairs:
                held.setdefault(collection, {})[name] = pairs
    return held


def stored() -> Contents:
    """What the indexes must hold."""
    held: Contents = {}
    for row in execute("SELECT collection_id, id, pdq, phash, dhash, ahash FROM imgindex_image WHERE quality >= 50"):
        for i, name in enumerate(codes.NAMES):
            held.setdefault(row[0], {}).setdefault(name, set()).add((row[1], codes.code_from_text(row[2 + i])))
    return held


def numbers(state: State) -> set[int]:
    """The numbers of all images in the index of the collection."""
    indexes = state.indexes.get(state.collections[CALLER.tenant, COLLECTION])
    if indexes is None:
        return set()
    return set(indexes["pdq"].within(np.zeros((1, 32), dtype=np.uint8), 256)[0].ids.tolist())


# --- across processes


def test_another_process_sees_every_write_at_once() -> None:
    place = freshness.Place("tests.settings", str(connection.settings_dict["NAME"]))
    with freshness.searching(place) as line, freshness.writing(place, 2) as background:
        result = freshness.measure(line=line, background=background, pairs=150, seconds=15)
    assert result.stale == []
    assert result.pairs >= 30
    assert all(result.by_kind[kind] for kind in ("add", "replace", "delete"))
    assert result.background_writes > 0


# --- one replica and its log


def test_a_write_reaches_the_index_without_a_reload() -> None:
    replica = Replica()
    before = replica.catch_up()
    written = put_picture("a", 0)
    after = replica.catch_up()
    assert after is before
    assert after.position.seq == written.seq
    assert numbers(after) == {written.image.pk}
    assert indexed(after) == stored()


def test_nothing_changed_costs_no_reload() -> None:
    put_codes("a", 1)
    replica = Replica()
    state = replica.catch_up()
    assert replica.catch_up() is state


def test_a_long_log_is_applied_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    replica = Replica()
    before = replica.catch_up()
    for number in range(20):
        put_codes(f"image-{number}", number)
    monkeypatch.setattr(sync, "_BATCH", 3)
    after = replica.catch_up()
    assert after is before
    assert after.position == changes.head()
    assert indexed(after) == stored()


def test_replay_is_idempotent() -> None:
    state = State()
    put_codes("a", 1)
    put_codes("b", 2)
    put_codes("a", 3)
    put_codes("c", 4)
    catalogue.image_delete(caller=CALLER, collection=COLLECTION, image_id="b")
    log = changes.since(0, limit=1000)
    for stretch in (log, log, log[2:], log):
        state.apply(stretch)
        assert indexed(state) == stored()
        assert len(numbers(state)) == 2


def test_a_replaced_image_moves_to_its_new_code() -> None:
    pk = put_codes("a", 1)
    replica = Replica()
    old = indexed(replica.catch_up())
    assert put_codes("a", 2) == pk
    new = indexed(replica.catch_up())
    assert new == stored()
    assert new != old
    assert numbers(replica.catch_up()) == {pk}


def test_a_featureless_replacement_leaves_the_index_and_a_textured_one_comes_back() -> None:
    replica = Replica()
    pk = put_picture("a", 0).image.pk
    assert numbers(replica.catch_up()) == {pk}
    assert put("a", encoded(flat())).image.quality < 50
    assert numbers(replica.catch_up()) == set()
    assert numbers(Replica().catch_up()) == set()
    put_picture("a", 1)
    assert numbers(replica.catch_up()) == {pk}


def test_metadata_alone_changes_no_code() -> None:
    put_codes("a", 1)
    replica = Replica()
    before = indexed(replica.catch_up())
    catalogue.image_patch(caller=CALLER, collection=COLLECTION, image_id="a", metadata={"seen": True})
    assert indexed(replica.catch_up()) == before


def test_collections_come_and_go_in_another_replica() -> None:
    replica = Replica()
    replica.catch_up()
    first, _ = catalogue.collection_create(caller=CALLER, name="holiday")
    assert replica.catch_up().collections[CALLER.tenant, "holiday"] == first.id
    source = FromUpload(io.BytesIO(freshness.pictures()[0].data))
    catalogue.image_put(caller=CALLER, collection="holiday", source=source, image_id="a")
    assert indexed(replica.catch_up()) == stored()
    assert first.id in replica.catch_up().indexes
    catalogue.collection_delete(caller=CALLER, name="holiday")
    gone = replica.catch_up()
    assert (CALLER.tenant, "holiday") not in gone.collections
    assert first.id not in gone.indexes
    # Dropped and made again between two searches: the name stands for the new one, which is empty.
    catalogue.collection_create(caller=CALLER, name="holiday")
    catalogue.collection_delete(caller=CALLER, name="holiday")
    second, _ = catalogue.collection_create(caller=CALLER, name="holiday")
    assert replica.catch_up().collections[CALLER.tenant, "holiday"] == second.id
    assert replica.catch_up().collections == Replica().catch_up().collections


# --- a log that does not continue


def test_a_restored_backup_is_noticed() -> None:
    kept = put_codes("kept", 1)
    backup = changes.head().seq
    replica = Replica()
    replica.catch_up()
    put_codes("lost", 2)
    before = replica.catch_up()
    assert len(numbers(before)) == 2
    rewind(backup)
    after = replica.catch_up()
    assert after is not before
    assert numbers(after) == {kept}
    assert after.position.seq == backup


def test_a_restored_backup_that_has_caught_up_is_noticed_by_its_token() -> None:
    put_codes("kept", 1)
    replica = Replica()
    put_codes("lost", 2)
    before = replica.catch_up()
    head = before.position
    rewind(head.seq - 1)
    write_log_row(head.seq, head.token ^ 1)
    after = replica.catch_up()
    assert after is not before
    assert after.position == changes.Position(head.seq, head.token ^ 1)
    assert indexed(after) == stored()


def test_a_restored_backup_that_has_gone_further_is_noticed_by_its_token() -> None:
    put_codes("kept", 1)
    replica = Replica()
    put_codes("lost", 2)
    before = replica.catch_up()
    head = before.position
    rewind(head.seq - 1)
    write_log_row(head.seq, head.token ^ 1)
    new = put_codes("new", 3)
    after = replica.catch_up()
    assert after is not before
    assert new in numbers(after)
    assert indexed(after) == stored()


def test_an_emptied_log_is_noticed() -> None:
    put_codes("a", 1)
    replica = Replica()
    before = replica.catch_up()
    execute("DELETE FROM imgindex_change")
    after = replica.catch_up()
    assert after is not before
    assert after.position == changes.START
    put_codes("b", 2)
    assert indexed(replica.catch_up()) == stored()


def test_a_process_whose_place_was_pruned_reloads() -> None:
    put_codes("a", 1)
    behind, ahead = Replica(), Replica()
    old = behind.catch_up()
    for number in range(3):
        put_codes(f"later-{number}", number + 10)
    current = ahead.catch_up()
    assert changes.prune(keep=1) >= 3
    assert ahead.catch_up() is current
    assert behind.catch_up() is not old
    assert indexed(behind.catch_up()) == stored()


def test_the_newest_row_is_never_pruned() -> None:
    put_codes("a", 1)
    head = changes.head()
    changes.prune(keep=0)
    assert changes.head() == head
    assert execute("SELECT count(*) FROM imgindex_change") == [(1,)]


def test_the_log_is_pruned_by_writes_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "CHANGE_LOG_ROWS", 10)
    monkeypatch.setattr(changes, "_PRUNE_EVERY", 7)
    collection = catalogue.collection_get(caller=CALLER, name=COLLECTION).id
    for _ in range(20):
        with changes.write() as log:
            log.record("d", collection=collection, images=[1, 2, 3, 4, 5])
    ((rows,),) = execute("SELECT count(*) FROM imgindex_change")
    assert 10 <= rows <= 10 + 2 * 7


@pytest.mark.parametrize("emptied", [False, True])
def test_a_log_that_is_cut_back_during_a_search_holds_nobody_up(monkeypatch: pytest.MonkeyPatch, emptied: bool) -> None:
    put_codes("a", 1)
    replica = Replica()
    replica.catch_up()
    put_codes("b", 2)
    read_head = changes.head
    last = read_head()
    # What the search reads as the head, without the lock and under it, is not there any more when it reads the log.
    heads = [changes.Position(last.seq + 5, 1)] * 2
    monkeypatch.setattr(changes, "head", lambda: heads.pop() if heads else read_head())
    if emptied:
        execute("DELETE FROM imgindex_change")
    state = replica.catch_up()
    assert heads == []
    assert state.position == (changes.START if emptied else last)
    assert indexed(state) == stored()


def test_a_reload_that_fails_leaves_the_next_search_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    put_codes("a", 1)
    replica = Replica()

    def fail(*, batch: int) -> Iterator[list[codes.CodeRow]]:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patched:
        patched.setattr(codes, "stream", fail)
        with pytest.raises(OSError, match="disk is gone"):
            replica.catch_up()
    assert indexed(replica.catch_up()) == stored()


def test_searches_wait_for_the_first_load(monkeypatch: pytest.MonkeyPatch) -> None:
    pk = put_codes("a", 1)
    replica = Replica()
    loading, go_on = threading.Event(), threading.Event()
    loads = []
    stream = codes.stream

    def slow(*, batch: int) -> Iterator[list[codes.CodeRow]]:
        loads.append(threading.get_ident())
        loading.set()
        assert go_on.wait(20)
        yield from stream(batch=batch)

    monkeypatch.setattr(codes, "stream", slow)
    with ThreadPoolExecutor(4) as threads:
        searches = [threads.submit(on_a_connection_of_its_own(replica.catch_up)) for _ in range(4)]
        assert loading.wait(20)
        time.sleep(0.3)
        assert not any(search.done() for search in searches)
        go_on.set()
        states = [search.result(20) for search in searches]
    assert len(loads) == 1
    assert len(set(map(id, states))) == 1
    assert numbers(states[0]) == {pk}


# --- writing


def on_a_connection_of_its_own(work: Callable[[], T]) -> Callable[[], T]:
    """The work, for a thread that leaves no connection behind."""

    def run() -> T:
        try:
            return work()
        finally:
            connections.close_all()

    return run


def test_the_order_of_numbers_is_the_order_of_commits() -> None:
    threads, writes = 8, 25
    start, done = changes.head().seq, threading.Event()

    def write(number: int) -> None:
        for turn in range(writes):
            put_codes(f"{number}-{turn % 5}", number * 1000 + turn)

    def tail() -> list[int]:
        """Read only what is above the last number seen: whatever is committed below it later is missed."""
        seen, last = [], start
        while True:
            finished = done.is_set()
            fresh = [change.position.seq for change in changes.since(last + 1, limit=10_000)]
            seen += fresh
            last = max(fresh, default=last)
            if finished:
                return seen

    with ThreadPoolExecutor(threads + 1) as pool:
        tailing = pool.submit(on_a_connection_of_its_own(tail))
        for writer in [
            pool.submit(on_a_connection_of_its_own(lambda number=number: write(number))) for number in range(threads)
        ]:
            writer.result(60)
        done.set()
        seen = tailing.result(20)
    committed = [seq for (seq,) in execute("SELECT seq FROM imgindex_change WHERE seq > %s ORDER BY seq", [start])]
    assert len(committed) == threads * writes
    assert seen == committed
    assert indexed(Replica().catch_up()) == stored()


def test_a_write_that_fails_leaves_nothing_and_no_lock() -> None:
    put_codes("a", 1)
    head, count = changes.head(), execute("SELECT count(*) FROM imgindex_image")
    collection = catalogue.collection_get(caller=CALLER, name=COLLECTION).id

    def write_half() -> None:
        with changes.write() as log:
            images.delete(collection=collection, image_id="a")
            log.record("d", collection=collection, images=[1])
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write_half()
    assert changes.head() == head
    assert execute("SELECT count(*) FROM imgindex_image") == count
    assert execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    with ThreadPoolExecutor(1) as pool:
        pool.submit(on_a_connection_of_its_own(lambda: put_codes("b", 2))).result(10)


def test_a_write_that_fails_leaves_no_file() -> None:
    media = Path(settings.MEDIA_ROOT)

    def files() -> set[Path]:
        return {path for path in media.rglob("*") if path.is_file()}

    before = files()
    with pytest.MonkeyPatch.context() as patched:

        def fail(self: changes.Log, *args: object, **options: object) -> int:
            raise RuntimeError("halfway")

        patched.setattr(changes.Log, "record", fail)
        with pytest.raises(RuntimeError, match="halfway"):
            put_picture("a", 0)
    assert files() == before
    put_picture("a", 0)
    assert len(files()) == len(before) + 1
    put_picture("a", 1)
    assert len(files()) == len(before) + 1


def test_what_is_acknowledged_is_flushed() -> None:
    collection = catalogue.collection_get(caller=CALLER, name=COLLECTION).id
    # Postgres flushes by itself some 200 ms after an asynchronous commit: one lucky moment proves nothing.
    for _ in range(20):
        with changes.write() as log:
            log.record("d", collection=collection, images=[1])
            ((written,),) = execute("SELECT pg_current_wal_insert_lsn()")
        assert execute("SELECT pg_current_wal_flush_lsn() > %s::pg_lsn", [written]) == [(True,)]


def test_one_write_of_many_images_is_seen_whole() -> None:
    numbers_put = [put_codes(f"image-{number}", number) for number in range(5)]
    replica = Replica()
    replica.catch_up()
    collection = catalogue.collection_get(caller=CALLER, name=COLLECTION).id
    with changes.write() as log:
        for number in range(5):
            images.delete(collection=collection, image_id=f"image-{number}")
        last = log.record("d", collection=collection, images=numbers_put)
    state = replica.catch_up()
    assert log.seq == last == state.position.seq
    assert numbers(state) == set()
