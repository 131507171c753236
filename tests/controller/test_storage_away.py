"""A storage that is away, or not the one of the records: nothing counts as deleted, and nothing lands elsewhere."""

from pathlib import Path

import grpc
import pytest

from csi_plugin.persistence.records import KeyValueRecord
from csi_plugin.storage import storage_identity
from csi_plugin.storage.cinder import inventory
from csi_plugin.storage.storage_identity import PREFIX
from tests.controller.plugin import Plugin, Serve
from tests.support.csi import fails
from tests.support.loop_volumes import MARK, file_names
from tests.support.polling import wait_until

Code = grpc.StatusCode


def unmount(directory: Path) -> Path:
    """What a filesystem that is not mounted leaves at its place, and where the files are now."""
    away = directory.rename(directory.with_name("away"))
    directory.mkdir()
    return away


def mount(away: Path, directory: Path) -> None:
    assert list(directory.iterdir()) == [], "nothing lands under the mount point"
    directory.rmdir()
    away.rename(directory)


def start(serve: Serve, directory: Path) -> tuple[Plugin, str]:
    """A controller on the same records, and why its backend does not serve."""
    plugin = serve(directory=directory, wait=False)
    assert plugin.backends.wait_until_attempted(30)
    (status,) = plugin.backends.status()
    return plugin, status.error


def test_a_directory_whose_filesystem_goes_while_the_driver_serves(serve: Serve) -> None:
    plugin = serve()
    volume = plugin.create("pvc-1").volume_id
    snapshot = plugin.snapshot("snap-1", volume).snapshot_id
    other = plugin.create("pvc-2").volume_id
    plugin.add_node("node1")
    away = unmount(plugin.directory)
    with fails(Code.UNAVAILABLE, "is its filesystem mounted"):
        plugin.create("pvc-3")
    with fails(Code.UNAVAILABLE, "is its filesystem mounted"):
        plugin.publish(volume, "node1")
    with fails(Code.UNAVAILABLE, "is its filesystem mounted"):
        plugin.delete(other)
    mount(away, plugin.directory)
    plugin.delete(other)
    assert file_names(plugin.directory) == [f"snapshot-{snapshot}", f"volume-{volume}"]
    plugin.publish(volume, "node1")


def test_a_start_on_an_empty_directory(serve: Serve) -> None:
    plugin = serve()
    volume = plugin.create("pvc-1").volume_id
    plugin.backends.close()
    away = unmount(plugin.directory)
    later, why = start(serve, plugin.directory)
    assert "mount that filesystem" in why
    with fails(Code.UNAVAILABLE, "mount that filesystem"):
        later.delete(volume)
    later.backends.close()
    plugin.directory.rmdir()  # the mount point may be away as well
    missing, why = start(serve, plugin.directory)
    assert "mount that filesystem" in why
    missing.backends.close()
    plugin.directory.mkdir()
    mount(away, plugin.directory)
    again, why = start(serve, plugin.directory)
    assert why == ""
    again.delete(volume)
    assert file_names(plugin.directory) == []


@pytest.mark.parametrize("is_there", [True, False])
def test_records_from_before_directories_had_an_id(serve: Serve, is_there: bool) -> None:
    plugin = serve()
    volume = plugin.create("pvc-1").volume_id
    plugin.backends.close()
    plugin.store.delete(KeyValueRecord(id=f"{PREFIX}loop"))
    (plugin.directory / MARK).unlink()
    if not is_there:
        unmount(plugin.directory)
    later, why = start(serve, plugin.directory)
    if is_there:
        assert why == ""
        assert (plugin.directory / MARK).is_file()
        later.delete(volume)
    else:
        assert "none of the volumes of backend loop" in why


def test_a_directory_without_records_may_change(serve: Serve) -> None:
    plugin = serve()
    plugin.delete(plugin.create("pvc-1").volume_id)
    plugin.backends.close()
    unmount(plugin.directory)
    again, why = start(serve, plugin.directory)
    assert why == ""
    again.create("pvc-2")


@pytest.fixture
def unmarked(monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a driver whose storage has no id."""
    monkeypatch.setattr(storage_identity, "_has_id", lambda driver: False)
    return "tests.controller.drivers.UnmarkedDriver"


def test_options_that_were_changed_while_nothing_ran_have_to_lead_to_the_volumes(serve: Serve, unmarked: str) -> None:
    """An edit by mistake: the backend was Ready, DeleteVolume was OK, and the volume stayed in the former directory."""
    plugin = serve(driver=unmarked)
    volume = plugin.create("pvc-1").volume_id
    plugin.backends.close()
    elsewhere = plugin.directory.with_name("elsewhere")
    later = serve(driver=unmarked, directory=elsewhere, wait=False)
    assert later.backends.wait_until_attempted(30)
    (status,) = later.backends.status()
    assert status.is_invalid
    assert status.error.startswith(
        f"1 of 1 volumes that are recorded on backend loop are not where its new options lead ({volume})"
    )
    with fails(Code.UNAVAILABLE, "until they are put back", "accept-missing-volumes"):
        later.delete(volume)
    later.backends.close()
    more = {"max_over_subscription_ratio": 3, "max_concurrent_operations": 2}
    again = serve(driver=unmarked, directory=plugin.directory, options=more)
    assert again.list() == [volume]
    again.backends.close()
    accepted = serve(driver=unmarked, directory=elsewhere, options={"accept_missing_volumes": True})
    accepted.backends.close()
    serve(driver=unmarked, directory=elsewhere)  # what was accepted is what the next start is compared with


def lists(plugin: Plugin, *ids: str) -> None:
    """Wait until the last list of the storage is that of these volumes."""
    (backend,) = plugin.backends.ready()

    def is_listed() -> bool:
        backend.inventory.refresh(max_age=0)
        return backend.inventory.listed() == {f"volume-{volume_id}" for volume_id in ids}

    wait_until(is_listed, backend.inventory.listed)


def test_nothing_counts_as_deleted_on_a_storage_that_has_lost_everything(
    serve: Serve, unmarked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "_MIN_AGE", 0.0)
    plugin = serve(driver=unmarked)
    volume, other = (plugin.create(name).volume_id for name in ("pvc-1", "pvc-2"))
    lists(plugin, volume, other)
    away = unmount(plugin.directory)
    lists(plugin)
    with fails(Code.UNAVAILABLE, volume, "nor any other that it had before", "is the right storage"):
        plugin.delete(volume)
    mount(away, plugin.directory)
    lists(plugin, volume, other)
    plugin.delete(volume)
    assert plugin.list() == [other]
    assert f"volume-{volume}" not in plugin.files()
    (plugin.directory / f"volume-{other}").unlink()
    lists(plugin)
    with fails(Code.UNAVAILABLE, other, "accept_missing_volumes"):
        plugin.delete(other)
    plugin.backends.close()
    accepted = serve(driver=unmarked, directory=plugin.directory, options={"accept_missing_volumes": True})
    accepted.delete(other)


def test_what_lists_of_an_earlier_process_had_counts(
    serve: Serve, unmarked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same options lead elsewhere after a restart, as with another ceph.conf."""
    monkeypatch.setattr(inventory, "_MIN_AGE", 0.0)
    plugin = serve(driver=unmarked)
    volume = plugin.create("pvc-1").volume_id
    lists(plugin, volume)
    plugin.service.health_watch.look()
    plugin.backends.close()
    away = unmount(plugin.directory)
    later = serve(driver=unmarked, directory=plugin.directory)
    with fails(Code.UNAVAILABLE, volume, "is the right storage"):
        later.delete(volume)
    later.backends.close()
    mount(away, plugin.directory)
    serve(driver=unmarked, directory=plugin.directory).delete(volume)
    assert file_names(plugin.directory) == []


def test_an_edit_is_not_measured_by_a_list_from_before_the_volumes(
    serve: Serve, unmarked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "_MIN_AGE", 0.0)
    plugin = serve(driver=unmarked)
    former = plugin.create("pvc-1").volume_id
    lists(plugin, former)
    volume = plugin.create("pvc-2").volume_id
    plugin.delete(former)
    (backend,) = plugin.backends.ready()
    elsewhere = {"volume_driver": unmarked, "loop_volumes_dir": str(plugin.directory.with_name("elsewhere"))}
    with pytest.raises(ValueError, match=f"1 of 1 volumes .*{volume}"):
        type(backend).replace(backend.id, **elsewhere)
    plugin.delete(volume)
    assert file_names(plugin.directory) == []
