"""One library, many threads: nothing is lost, doubled or left, in the storage, in the store and in the objects."""

import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import csi_plugin as cl
from csi_plugin.persistence.base import RecordExists
from csi_plugin.persistence.records import SnapshotRecord
from csi_plugin.storage import volume_deletion

THREADS = 32
CONNECTOR = {"host": "far", "initiator": "iqn.2026-11.org.example:far", "multipath": False}


def side_by_side(work: Any, count: int = THREADS) -> list[Any]:
    """Run ``work(number)`` in as many threads, started together. Errors are raised here."""
    barrier = threading.Barrier(count)

    def task(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(task, range(count)))


def test_lives_of_volumes_on_two_backends(persistence: Any, new_backend: Any, files: Any) -> None:
    backends = [new_backend("first"), new_backend("second")]
    _ = [backend.volumes for backend in backends]  # loaded, so that they have to be kept right

    def life(number: int) -> str:
        backend = backends[number % 2]
        volume = backend.create_volume(1, name=f"v{number}", extra_specs={"number": str(number)})
        snapshot = volume.create_snapshot(f"s{number}")
        connection = volume.connect(CONNECTOR)
        assert cl.Volume.get_by_id(volume.id).connections[0].id == connection.id
        connection.disconnect()
        volume.extend(2)
        with pytest.raises(cl.exception.InvalidVolume):
            volume.delete()
        assert [found.id for found in cl.Volume.get_by_name(f"v{number}")] == [volume.id]
        if number % 4 < 2:
            volume.delete(deferred=True)
            snapshot.delete()
            return ""
        snapshot.delete()
        cl.load(volume.dumps, save=True).delete()
        kept = backend.create_volume(1, name=f"kept{number}")
        return str(kept.id)

    kept = {identifier for identifier in side_by_side(life) if identifier}
    assert len(kept) == THREADS // 2
    for backend in backends:
        assert {found.id for found in backend.volumes} <= kept
        assert files(backend.id) == {found.name_in_storage for found in backend.volumes}
    assert {found.id for backend in backends for found in backend.volumes} == kept
    assert {found.id for found in persistence.get_volumes()} == kept
    assert persistence.get_snapshots() == []
    assert persistence.get_connections() == []


def test_one_id_is_made_once(backend: cl.Backend, files: Any) -> None:
    wanted = cl.Volume.new_uuid()

    def create(number: int) -> str:
        try:
            backend.create_volume(1, id=wanted)
        except RecordExists:
            return "exists"
        return "made"

    assert Counter(side_by_side(create)) == {"made": 1, "exists": THREADS - 1}
    assert files() == {f"volume-{wanted}"}


def test_the_last_of_many_snapshots_ends_a_deferred_delete(backend: cl.Backend, files: Any) -> None:
    volume = backend.create_volume(1)
    snapshots = [volume.create_snapshot(str(number)) for number in range(16)]
    volume.delete(deferred=True)
    side_by_side(lambda number: cl.Snapshot.get_by_id(snapshots[number].id).delete(), count=16)
    assert files() == set()
    with pytest.raises(cl.exception.VolumeNotFound):
        volume.refresh()


def test_a_snapshot_that_goes_while_another_thread_looks_is_not_missed(
    backend: cl.Backend, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first deletion's look still sees the second snapshot; the second's thread finds the first one looking."""
    volume = backend.create_volume(1)
    first, second = (volume.create_snapshot(name) for name in ("first", "second"))
    volume.delete(deferred=True)
    store = cl.Backend.store
    looked, may_answer, slow_thread = threading.Event(), threading.Event(), threading.Thread(target=first.delete)

    def find(kind: Any, **arguments: Any) -> Any:
        found = original(kind, **arguments)
        if kind is SnapshotRecord and threading.current_thread() is slow_thread:
            looked.set()
            assert may_answer.wait(60)
        return found

    original = store.find
    monkeypatch.setattr(store, "find", find)
    slow_thread.start()
    assert looked.wait(60)
    second.delete()
    assert files() != set(), "nothing shows that the second deletion found the first one looking"
    may_answer.set()
    slow_thread.join()
    assert files() == set()


def test_a_delete_deferred_as_its_last_snapshot_goes(
    backend: cl.Backend, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot goes after the deletion saw it, before the deletion is recorded as waiting for it."""
    volume = backend.create_volume(1)
    snapshot = volume.create_snapshot("last")
    original = volume_deletion.defer

    def defer(volume: cl.Volume, condition: str) -> None:
        if snapshot.status != "deleted":
            snapshot.delete()
        original(volume, condition)

    monkeypatch.setattr(volume_deletion, "defer", defer)
    volume.delete(deferred=True)
    assert files() == set()
    with pytest.raises(cl.exception.VolumeNotFound):
        volume.refresh()


def test_objects_of_one_volume_change_different_fields(backend: cl.Backend) -> None:
    volume = backend.create_volume(1)
    names = ["display_name", "display_description", "provider_id", "provider_location"]

    def change(number: int) -> None:
        mine = cl.Volume.get_by_id(volume.id)
        setattr(mine._ovo, names[number], f"by {number}")
        mine.save()

    side_by_side(change, count=4)
    stored = cl.Volume.get_by_id(volume.id).record
    assert [getattr(stored, name) for name in names] == [f"by {number}" for number in range(4)]


def test_what_others_stored_stays(backend: cl.Backend) -> None:
    volume = backend.create_volume(1, extra_specs={"a": "1"})
    other = cl.Volume.get_by_id(volume.id)
    other._ovo.provider_id = "by another"
    other.save()
    cl.Volume.get_by_id(volume.id).retype(extra_specs={"a": "2"})
    for name in ("once", "twice"):
        volume._ovo.display_name = name
        volume.save()
        stored = cl.Volume.get_by_id(volume.id).record
        assert (stored.display_name, stored.provider_id) == (name, "by another")
    assert volume.provider_id == "by another"


def test_a_backend_is_made_once(memory: None, new_backend: Any) -> None:
    made = side_by_side(lambda number: new_backend("one"), count=8)
    assert len({id(backend) for backend in made}) == 1


def test_driver_calls_are_bounded(memory: None, new_backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = new_backend(max_concurrent_operations=3)
    running, most, lock = 0, 0, threading.Lock()
    create = backend.driver.create_volume

    def counted(volume: Any) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return create(volume)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(backend.driver, "create_volume", counted)
    side_by_side(lambda number: backend.create_volume(1), count=16)
    assert 1 <= most <= 3
    assert len(backend.volumes) == 16


def test_a_delete_and_a_snapshot_at_once(backend: cl.Backend, files: Any) -> None:
    """Either may win, or neither; a snapshot of nothing is never left."""
    for _ in range(8):
        volume = backend.create_volume(1)

        def act(number: int, volume: cl.Volume = volume) -> str:
            try:
                mine = cl.Volume.get_by_id(volume.id)
                if number % 2:
                    mine.create_snapshot("s")
                    return "snapshot"
                mine.delete()
            except (cl.exception.InvalidVolume, cl.exception.VolumeNotFound):
                return "refused"
            return "delete"

        outcome = Counter(side_by_side(act, count=4))
        snapshots = cl.Backend.persistence.get_snapshots(volume_id=volume.id)
        there = bool(cl.Backend.persistence.get_volumes(volume.id))
        assert there == (not outcome["delete"])
        assert len(snapshots) == (0 if outcome["delete"] else outcome["snapshot"])
        for snapshot in snapshots:
            assert snapshot.status == "available"
            snapshot.delete()
        if there:
            volume.refresh()
            volume.delete()
    assert files() == set()


def test_one_of_many_connects(backend: cl.Backend) -> None:
    volume = backend.create_volume(1)

    def connect(number: int) -> Any:
        try:
            node = f"host{number}"
            return cl.Volume.from_record(volume.record).connect({**CONNECTOR, "host": node}, node_id=node)
        except cl.exception.InvalidVolume:
            return None

    made = [connection for connection in side_by_side(connect, count=8) if connection is not None]
    assert len(made) <= 1
    volume.refresh()
    assert [found.id for found in volume.connections] == [connection.id for connection in made]


def test_a_fork_while_other_threads_call_the_driver(memory: None, new_backend: Any) -> None:
    """The child is without the threads that had the slots."""
    backend = new_backend(max_concurrent_operations=1)
    is_held, goes_on = threading.Event(), threading.Event()

    def hold() -> None:
        with backend.slot():
            is_held.set()
            goes_on.wait()

    def work_in_a_child() -> int:
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            code = 1
            try:
                backend.create_volume(1).delete()
                backend.stats(refresh=True)
                code = 0
            finally:
                os._exit(code)
        return os.waitpid(child, 0)[1]

    with ThreadPoolExecutor() as pool:
        held = pool.submit(hold)
        is_held.wait()
        status = work_in_a_child()
        goes_on.set()
        held.result()
    assert status == 0
    with backend.slot():
        assert work_in_a_child() == 0
