"""What a controller writes has no effect once another one holds the lease, whatever the first believes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.persistence.base import LeadershipLost, RecordStore
from csi_plugin.persistence.crd import CRDPersistence
from csi_plugin.persistence.dbms import DBPersistence
from csi_plugin.persistence.leases import Fence, LeaseTerm
from csi_plugin.persistence.records import VolumeRecord
from csi_plugin.persistence.testing import new_id, samples
from csi_plugin.storage import database
from csi_plugin.storage.cinder.runtime import CONTEXT
from tests.support.polling import wait_until

LEASE = "controller"
OpenStore = Callable[[], Any]


@pytest.fixture(params=["sqlite", "mariadb", "postgresql", pytest.param("crd", marks=pytest.mark.kubernetes)])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the same records again and again."""
    if request.param == "crd":
        server = request.getfixturevalue("kubernetes")
        namespace = server.new_namespace()
        make: OpenStore = lambda: CRDPersistence(namespace=namespace, kubeconfig=str(server.kubeconfig))  # noqa: E731
    else:
        url = f"sqlite:///{tmp_path}/metadata.sqlite"
        if request.param != "sqlite":
            url = request.getfixturevalue(request.param).create_database()
        make = lambda: DBPersistence(url)  # noqa: E731
    opened: list[RecordStore] = []

    def open_one() -> Any:
        opened.append(make())
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def lead(store: RecordStore, holder: str) -> list[str]:
    """Wait for the lease and write as its holder from now on; what the store says of later ones."""
    told: list[str] = []
    wait_until(lambda: store.acquire_lease(LEASE, holder=holder, seconds=1), lambda: "the lease is held")
    store.use_fence(Fence(LEASE, store.lease_term(LEASE).epoch, check=lambda: None, overtaken=told.append))
    return told


def a_volume() -> VolumeRecord:
    volume = next(record for record in samples() if isinstance(record, VolumeRecord))
    return replace(volume, id=new_id(), snapshot_id=None, source_volid=None, group_id=None)


def test_nothing_takes_effect_in_a_successors_term(open_store: OpenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_active", None)  # an earlier test's, who asks Cinder's layer no more
    first, second = open_store(), open_store()
    told = lead(first, "first")
    assert first.lease_term(LEASE) == LeaseTerm(1)
    assert first.acquire_lease(LEASE, holder="first", seconds=1)
    volume = first.update(first.create(a_volume()))
    lead(second, "second")
    assert second.lease_term(LEASE) == LeaseTerm(2, predecessor="first")
    wait_until(lambda: second.get(VolumeRecord, volume.id) == volume, lambda: "it is not seen")
    volume = second.update(volume)
    writes: list[Callable[[], object]] = [
        lambda: first.update(replace(volume, size=volume.size + 1)),
        lambda: first.delete(volume),
    ]
    if isinstance(first, DBPersistence):
        first.activate()  # what drivers write through Cinder's own layer
        writes += [
            lambda: first.create(a_volume()),
            lambda: first.db.volume_update(CONTEXT, volume.id, {"display_name": "late"}),
        ]
    for write in writes:
        with pytest.raises(LeadershipLost, match="term 2"):
            write()
    assert len(told) == len(writes)
    assert second.find(VolumeRecord) == [volume]
    second.delete(second.update(volume))


def test_one_that_gives_the_lease_back_leaves_nothing_under_way(open_store: OpenStore) -> None:
    first, second = open_store(), open_store()
    lead(first, "first")
    first.release_lease(LEASE, holder="first")
    lead(second, "second")
    assert second.lease_term(LEASE) == LeaseTerm(2)


def test_each_write_looks_whether_the_lease_may_have_run_out(open_store: OpenStore) -> None:
    def check() -> None:
        raise LeadershipLost("it may have run out")

    store = open_store()
    volume = store.create(a_volume())
    store.use_fence(Fence(LEASE, 0, check=check, overtaken=lambda reason: None))
    for write in (lambda: store.create(a_volume()), lambda: store.update(volume), lambda: store.delete(volume)):
        with pytest.raises(LeadershipLost, match="it may have run out"):
            write()
    assert store.find(VolumeRecord) == [volume]
