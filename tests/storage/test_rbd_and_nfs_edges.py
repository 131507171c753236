"""Cinder's RBD and NFS drivers at their edges, with stand-ins; the storage lab has them for real."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from csi_plugin.persistence.base import LeadershipLost
from csi_plugin.storage.cinder import driver_calls, exception
from csi_plugin.storage.cinder.adaptations import rbd_clones, rbd_keyrings, rbd_trash
from csi_plugin.storage.cinder.storage_away import StorageAway

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


def test_only_volumes_are_purged_from_the_trash(library: None) -> None:
    volume = f"volume-{'0' * 8}-0000-4000-8000-{'0' * 12}"
    trash = {"1": volume, "2": "someone-elses", "3": f"{volume}.deleted", "4": volume}

    class Pool(Ceph):
        def RBDProxy(self) -> Any:
            entries = [{"id": key, "name": name} for key, name in trash.items()]
            return SimpleNamespace(trash_list=lambda ioctx: entries, trash_remove=self._trash_remove)

        def _trash_remove(self, ioctx: object, key: str) -> None:
            if key == "4":
                raise PermissionError("its time has not come")
            del trash[key]

        def _trash_purge(self) -> None:
            trash.clear()

    ceph = Pool()
    rbd_trash.purge_deleted(ceph, SimpleNamespace(name="volume-2"))
    assert len(trash) == 4, "what this process has not deleted may be wanted back"
    rbd_trash.prepare(ceph)
    ceph._trash_purge()
    assert sorted(trash) == ["2", "4"]


class NfsDriver:
    """As far as the adaptation calls Cinder's."""

    __module__ = "cinder.volume.drivers.nfs"

    def __init__(self, share: Path) -> None:
        self.share = share
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
