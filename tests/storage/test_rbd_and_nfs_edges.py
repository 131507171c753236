"""Cinder's RBD and NFS drivers at their edges, with stand-ins; the storage lab has them for real."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from oslo_service import loopingcall

import csi_plugin as cl
from csi_plugin.persistence.base import LeadershipLost
from csi_plugin.persistence.records import KeyValueRecord
from csi_plugin.storage.cinder import driver_calls, exception
from csi_plugin.storage.cinder.adaptations import rbd_clones, rbd_keyrings, rbd_trash, storage_places
from csi_plugin.storage.cinder.storage_away import StorageAway
from csi_plugin.storage.library_state import STATE

CLONE = SimpleNamespace(name="volume-new", source_volid="old")


class ImageNotFound(Exception):
    pass


class Image:
    def __init__(self, snapshots: dict[str, list[str]]) -> None:
        self._snapshots = snapshots
        self._protected = set(snapshots)
        self._at: str | None = None

    def list_snaps(self) -> list[dict[str, str]]:
        return [{"name": name} for name in self._snapshots]

    def set_snap(self, name: str | None) -> None:
        self._at = name

    def list_children(self) -> list[str]:
        assert self._at is not None
        return self._snapshots[self._at]

    def is_protected_snap(self, name: str) -> bool:
        return name in self._protected

    def unprotect_snap(self, name: str) -> None:
        self._protected.remove(name)

    def remove_snap(self, name: str) -> None:
        assert name not in self._protected
        del self._snapshots[name]

    def close(self) -> None:
        assert self._at is None


class Ceph:
    """As far as the adaptations call Cinder's driver: images by name, each with its snapshots and their children."""

    def __init__(self, **images: dict[str, list[str]]) -> None:
        self.images = images
        self.rbd = SimpleNamespace(Image=self._image, ImageNotFound=ImageNotFound, Error=Exception)

    def _image(self, ioctx: object, name: str, **_: object) -> Image:
        if name not in self.images:
            raise ImageNotFound
        return Image(self.images[name])

    def RBDProxy(self) -> Any:
        return SimpleNamespace(remove=lambda ioctx, name: self.images.pop(name))

    def _connect_to_rados(self, *_: object) -> tuple[Any, object]:
        return SimpleNamespace(), SimpleNamespace()

    def _disconnect_from_rados(self, *_: object) -> None: ...

    def _delete_clone_parent_refs(self) -> None: ...

    def _set_keyring_attributes(self) -> None: ...


@pytest.mark.parametrize(
    ("images", "left"),
    [
        (
            {"volume-old": {"volume-new.clone_snap": [], "snapshot-1": []}},
            {"volume-old": {"snapshot-1": []}},
        ),
        ({"volume-old": {"volume-new.clone_snap": ["volume-new"]}}, None),
        ({"volume-old": {"volume-third.clone_snap": []}}, None),
        ({"volume-old.deleted": {"volume-new.clone_snap": []}}, {}),
    ],
)
def test_what_an_interrupted_clone_left_at_its_source_is_removed(
    library: None, images: dict[str, dict[str, list[str]]], left: dict[str, dict[str, list[str]]] | None
) -> None:
    ceph = Ceph(**copy.deepcopy(images))
    rbd_clones.remove_inner_names(ceph, CLONE)
    assert ceph.images == (images if left is None else left)


def test_no_snapshot_is_removed_after_leadership_was_lost(library: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ceph, looked = Ceph(**{"volume-old": {"volume-new.clone_snap": []}}), list[object]()
    monkeypatch.setattr(Image, "list_snaps", lambda image: looked.append(image) or [{"name": "volume-new.clone_snap"}])

    def check() -> None:
        if looked:
            raise LeadershipLost("another one may be active")

    with pytest.raises(LeadershipLost):
        rbd_clones.remove_inner_names(driver_calls.guarded(ceph, before=check, backend="rbd"), CLONE)
    assert ceph.images == {"volume-old": {"volume-new.clone_snap": []}}


class Chain(Ceph):
    """Images that stand on each other, as far as depth goes: each by its id ``id-NAME``, also when it has no name any
    more, as in the trash."""

    def __init__(self, *, deepest: int, limit: int = 5) -> None:
        super().__init__()
        self.parents = {f"volume-{number}": f"volume-{number - 1}" for number in range(1, deepest + 1)}
        self.nameless: set[str] = set()
        self.configuration = SimpleNamespace(rbd_max_clone_depth=limit, rbd_pool="volumes")

    def _image(self, ioctx: object, name: str | None = None, *, image_id: str | None = None, **_: object) -> Any:
        if name in self.nameless:
            raise ImageNotFound
        found = name or str(image_id).removeprefix("id-")
        return SimpleNamespace(
            parent_info=lambda: ("volumes", self._parent(found), "any"),
            parent_id=lambda: f"id-{self._parent(found)}",
            close=lambda: None,
        )

    def _parent(self, name: str) -> str:
        if name not in self.parents:
            raise ImageNotFound
        return self.parents[name]

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> None:
        self.parents[volume.name] = snapshot.volume_name

    def _flatten(self, pool: str, name: str) -> None:
        assert pool == "volumes"
        del self.parents[name]


@pytest.mark.parametrize("nameless", [set(), {"volume-2", "volume-4"}])
@pytest.mark.parametrize(("deepest", "limit", "flattened"), [(4, 5, False), (5, 5, True), (5, 0, False), (40, 5, True)])
def test_a_restored_image_does_not_stand_on_too_many_others(
    library: None, deepest: int, limit: int, flattened: bool, nameless: set[str]
) -> None:
    """The kernel maps no image with more than 16 below it, and the driver counts clones of volumes alone."""
    ceph = Chain(deepest=deepest, limit=limit)
    ceph.nameless = nameless
    restored = SimpleNamespace(id="1", name="volume-new", source_volid=None, size=1)
    taken = SimpleNamespace(id="2", volume_name=f"volume-{deepest}", volume_size=1)
    driver_calls.restore_snapshot(ceph, restored, taken)
    assert ("volume-new" not in ceph.parents) == flattened


class Snapshots(Ceph):
    """One image, and how many snapshots it has."""

    def create_snapshot(self, snapshot: Any) -> None:
        self.images[snapshot.volume_name][snapshot.name] = []

    def create_cloned_volume(self, volume: Any, source: Any) -> None:
        self.images[source.name][f"{volume.name}.clone_snap"] = []


def test_an_image_gets_no_more_snapshots_than_nodes_can_read(library: None) -> None:
    ceph = Snapshots(**{"volume-old": {f"snapshot-{number}": [] for number in range(499)}})
    ceph.configuration = SimpleNamespace(rbd_max_clone_depth=5)  # type: ignore[attr-defined]
    taken = SimpleNamespace(id="1", name="snapshot-new", volume_name="volume-old")
    driver_calls.create_snapshot(ceph, taken)
    with pytest.raises(exception.SnapshotLimitExceeded, match="volume-old has 500 snapshots"):
        driver_calls.create_snapshot(ceph, taken)
    with pytest.raises(exception.SnapshotLimitExceeded):
        driver_calls.clone_volume(ceph, CLONE, SimpleNamespace(name="volume-old", size=1))
    assert len(ceph.images["volume-old"]) == 500


def test_nodes_get_the_key_of_now(library: None, tmp_path: Path) -> None:
    ceph, keyring = Ceph(), tmp_path / "keyring"
    keyring.write_text("new")
    ceph.keyring_file = str(keyring)  # type: ignore[attr-defined]
    info = {"data": {"keyring": "old"}}
    rbd_keyrings.complete(ceph, info)
    assert info["data"]["keyring"] == "new"
    keyring.unlink()
    rbd_keyrings.complete(ceph, info)
    assert info["data"]["keyring"] == "new"


class TrashPool(Ceph):
    """With a trash, of which Cinder's own purge leaves nothing; the times of ``waiting`` have not come."""

    def __init__(self) -> None:
        super().__init__()
        self.trash: dict[str, str] = {}
        self.waiting: set[str] = set()

    def RBDProxy(self) -> Any:
        return SimpleNamespace(
            trash_list=lambda ioctx: [{"id": key, "name": name} for key, name in self.trash.items()],
            trash_remove=self._trash_remove,
            trash_move=lambda ioctx, name, delay=0: self.trash.update({f"id-{name}": name}),
        )

    def _trash_remove(self, ioctx: object, key: str) -> None:
        if self.trash[key] in self.waiting:
            raise PermissionError("its time has not come")
        del self.trash[key]

    def _trash_purge(self) -> None:
        self.trash.clear()


def _volume_name(number: int) -> str:
    return f"volume-{number:08d}-0000-4000-8000-{'0' * 12}"


@pytest.fixture
def recorded(library: None) -> Iterator[Any]:
    """What the records have about trashes."""
    store = cl.Backend.persistence

    def names() -> set[str]:
        return {record.id for record in store.find(KeyValueRecord) if record.id.startswith(rbd_trash.PREFIX)}

    yield names
    for name in names():
        store.delete(KeyValueRecord(id=name))


def test_what_the_driver_moved_to_the_trash_is_purged_and_nothing_else(
    recorded: Callable[[], set[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """The pool is shared: another installation's volumes, and OpenStack's, have names as ours have."""
    other, gone, late = (_volume_name(number) for number in range(3))
    pool = TrashPool()
    pool.trash = {"1": other, "2": "someone-elses", "3": f"{other}.deleted"}
    rbd_trash.prepare(pool, backend="ceph")
    for name in (gone, f"{gone}.deleted", late):
        pool.RBDProxy().trash_move(None, name, 60)
    pool.waiting.add(late)

    pool._trash_purge()

    assert set(pool.trash.values()) == {other, "someone-elses", f"{other}.deleted", late}
    assert recorded() == {f"{rbd_trash.PREFIX}ceph/{late}"}
    (said,) = [record.getMessage() for record in caplog.records if "has not put there" in record.getMessage()]
    assert "ceph" in said
    assert other in said
    assert late not in said
    pool._trash_purge()
    assert caplog.text.count("has not put there") == 1  # each is told of once

    # The controller was started anew meanwhile.
    pool.waiting.clear()
    pool.__dict__.pop("RBDProxy")
    rbd_trash.prepare(pool, backend="ceph")
    pool._trash_purge()
    assert set(pool.trash.values()) == {other, "someone-elses", f"{other}.deleted"}
    assert recorded() == set()


def test_a_deletion_that_is_repeated_finds_its_image_in_the_trash(recorded: Callable[[], set[str]]) -> None:
    """The first try ended after the move, and before that was recorded."""
    name, other = _volume_name(1), _volume_name(2)
    pool = TrashPool()
    pool.trash, pool.waiting = {"1": name, "2": other}, {name}
    rbd_trash.prepare(pool, backend="ceph")
    rbd_trash.purge_deleted(pool, SimpleNamespace(name=name))
    assert recorded() == {f"{rbd_trash.PREFIX}ceph/{name}"}
    pool.waiting.clear()
    rbd_trash.purge_deleted(pool, SimpleNamespace(name="volume-3"))
    assert set(pool.trash.values()) == {other}
    assert recorded() == set()


def test_an_image_that_a_person_took_out_of_the_trash_is_that_persons(recorded: Callable[[], set[str]]) -> None:
    pool = TrashPool()
    rbd_trash.prepare(pool, backend="ceph")
    pool.RBDProxy().trash_move(None, _volume_name(1), 60)
    pool.trash.clear()
    pool._trash_purge()
    pool.trash = {"1": _volume_name(1)}
    pool._trash_purge()
    assert pool.trash
    assert recorded() == set()


def test_nothing_is_purged_by_a_process_that_only_looks_or_does_not_lead(
    recorded: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_lost() -> None:
        raise LeadershipLost("another one may be active")

    pool = TrashPool()
    rbd_trash.prepare(pool, backend="ceph")
    pool.RBDProxy().trash_move(None, _volume_name(1), 0)
    for name, value in {"only_looks": True, "before_driver_call": raise_lost}.items():
        with monkeypatch.context() as changed:
            changed.setattr(STATE, name, value)
            pool._trash_purge()
        assert pool.trash
    pool._trash_purge()
    assert not pool.trash


def test_a_driver_that_was_replaced_purges_no_more(
    recorded: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, new = TrashPool(), TrashPool()
    rbd_trash.prepare(pool, backend="ceph")
    rbd_trash.prepare(new, backend="ceph")
    monkeypatch.setitem(STATE.backends, "ceph", SimpleNamespace(driver=pool))  # type: ignore[misc]
    for each in (pool, new):
        each._trash_purge()  # the new one while it starts
    monkeypatch.setitem(STATE.backends, "ceph", SimpleNamespace(driver=new))  # type: ignore[misc]
    new._trash_purge()
    with pytest.raises(loopingcall.LoopingCallDone):
        pool._trash_purge()


class NfsDriver:
    """As far as the adaptation calls Cinder's."""

    __module__ = "cinder.volume.drivers.nfs"

    def __init__(self, share: Path) -> None:
        self.share = share
        self.shares: dict[str, str | None] = {}
        self.is_away = False
        self.deletes = True

    def _ensure_share_mounted(self, share: str) -> None:
        if self.is_away:
            raise exception.NfsException("mount.nfs: Connection timed out")

    def local_path(self, volume: Any) -> str:
        return str(self.share / volume.name)

    def remove_export(self, *_: Any) -> None: ...

    def delete_volume(self, volume: Any) -> None:
        if self.deletes:
            (self.share / volume.name).unlink()


def test_a_volume_on_a_share_that_is_not_mounted_is_not_deleted(
    library: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cinder.utils.clean_volume_file_locks", lambda *_: None)
    volume = SimpleNamespace(id="1", name_id="1", name="volume-1", provider_location="filer:/a")
    driver = NfsDriver(tmp_path)
    (tmp_path / "volume-1").touch()
    driver.is_away = True
    with pytest.raises(StorageAway, match="filer:/a cannot be mounted"):
        driver_calls.delete_volume(driver, volume)
    driver.is_away, driver.deletes = False, False
    with pytest.raises(exception.VolumeBackendAPIException, match="volume-1 is there"):
        driver_calls.delete_volume(driver, volume)
    driver.deletes = True
    driver_calls.delete_volume(driver, volume)
    assert list(tmp_path.iterdir()) == []


def _with_options(name: str, **options: Any) -> Any:
    """A stand-in for one of Cinder's drivers: the name of its class tells the family."""
    configuration = SimpleNamespace(safe_get=options.get, **options)
    return type(name, (), {"configuration": configuration})()


def test_what_backends_share_is_known_by_cluster_pool_group_and_share(tmp_path: Path) -> None:
    def ceph(cluster: str, pool: str, *, exclusive: bool = True) -> Any:
        options = {"rbd_pool": pool, "rbd_ceph_conf": "/etc/ceph/ceph.conf", "rbd_exclusive_cinder_pool": exclusive}
        stats = {"location_info": f"ceph:/etc/ceph/ceph.conf:{cluster}:cinder:{pool}"}
        (place,) = storage_places.places_of(_with_options("RBDDriver", **options), stats)
        return place

    assert len({ceph("one", "volumes").key, ceph("one", "other").key, ceph("two", "volumes").key}) == 3
    assert ceph("one", "volumes").name == "pool volumes of Ceph cluster one"
    assert "set rbd_exclusive_cinder_pool to false" in ceph("one", "volumes").warning
    shared = ceph("one", "volumes", exclusive=False)
    assert (shared.key, shared.warning) == (ceph("one", "volumes").key, "")
    (group,) = storage_places.places_of(_with_options("LVMVolumeDriver", volume_group="vg0"), {})
    assert group.name == "volume group vg0"
    nfs = NfsDriver(tmp_path)
    nfs.shares = {"filer:/a": None, "filer:/b": "-o vers=4"}
    assert [place.name for place in storage_places.places_of(nfs, {})] == ["NFS share filer:/a", "NFS share filer:/b"]
