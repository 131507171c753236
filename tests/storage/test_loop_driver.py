"""The loop driver, driven through Cinder's objects as Cinder's volume manager drives it, on real filesystems."""

import inspect
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from oslo_service import backend as oslo_backend

from tests.support.csi import GIB, MIB

oslo_backend.init_backend(
    oslo_backend.BackendType.THREADING
)  # before Cinder's first import, which would choose eventlet

from cinder import context, exception, interface, objects  # noqa: E402
from cinder.interface import (  # noqa: E402
    volume_driver,
    volume_group_driver,
    volume_manageable_driver,
    volume_snapshot_revert,
    volume_snapshotmanagement_driver,
)
from cinder.volume import configuration  # noqa: E402
from oslo_config import cfg  # noqa: E402
from oslo_utils import importutils  # noqa: E402

from csi_plugin.storage.drivers import attached_files, loop, reflink, volume_directory  # noqa: E402

objects.register_all()

CONTEXT = context.get_admin_context()
REFLINK = ("xfs", "btrfs")
DRIVER = "csi_plugin.storage.drivers.loop.LoopDriver"


@pytest.fixture(scope="module")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A directory on the machine's own filesystem, on XFS and on btrfs."""
    directory = tmp_path_factory.mktemp("filesystems")
    made = {"host": directory / "host"}
    made["host"].mkdir()
    try:
        for name, command in {"xfs": ["mkfs.xfs", "-q", "-m", "reflink=1"], "btrfs": ["mkfs.btrfs", "-q"]}.items():
            image = directory / f"{name}.image"
            with image.open("wb") as file:
                file.truncate(1024 * MIB)
            subprocess.run([*command, str(image)], check=True, capture_output=True)
            target = directory / name
            target.mkdir()
            subprocess.run(["mount", "-o", "loop", str(image), str(target)], check=True, capture_output=True)
            made[name] = target
        yield made
    finally:
        for name in REFLINK:
            if name in made:
                subprocess.run(["umount", str(made[name])], check=True)


@pytest.fixture(params=["host", "xfs", "btrfs"])
def filesystem(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make_driver() -> Iterator[Callable[..., Any]]:
    """Makes drivers that are configured, but not set up, as Cinder makes them: by class name."""
    groups = []

    def make(directory: object) -> Any:
        group = f"loop_{uuid.uuid4().hex}"
        settings = configuration.Configuration(loop.loop_opts, config_group=group)
        cfg.CONF.set_override("loop_volumes_dir", directory and str(directory), group=group)
        groups.append(group)
        return importutils.import_object(
            DRIVER, configuration=settings, host="host@loop", cluster_name=None, is_vol_db_empty=True
        )

    yield make
    for group in groups:
        cfg.CONF.clear_override("loop_volumes_dir", group=group)


def set_up(driver: Any) -> Any:
    driver.do_setup(CONTEXT)
    driver.check_for_setup_error()
    return driver


@pytest.fixture
def directory(mounts: dict[str, Path], filesystem: str) -> Iterator[Path]:
    path = mounts[filesystem] / uuid.uuid4().hex
    yield path
    if path.exists():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()


@pytest.fixture
def driver(make_driver: Callable[..., Any], directory: Path) -> Any:
    return set_up(make_driver(directory))


@pytest.fixture
def plain(make_driver: Callable[..., Any], tmp_path: Path) -> Any:
    """A driver on the machine's own filesystem, for what does not depend on the filesystem."""
    return set_up(make_driver(tmp_path / "volumes"))


def new_volume(size: int = 1, **values: Any) -> Any:
    return objects.Volume(CONTEXT, **({"id": str(uuid.uuid4()), "_name_id": None, "size": size} | values))


def new_snapshot(volume: Any, **values: Any) -> Any:
    return objects.Snapshot(
        CONTEXT, id=str(uuid.uuid4()), volume_id=volume.id, volume=volume, volume_size=volume.size, **values
    )


def path_of(driver: Any, item: Any) -> Path:
    return Path(driver.configuration.loop_volumes_dir) / item.name


def write(path: Path, data: bytes, offset: int = 0) -> None:
    """Write without flushing, as most writers do."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.pwrite(descriptor, data, offset)
    finally:
        os.close(descriptor)


def read(path: Path, length: int, offset: int = 0) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.pread(descriptor, length, offset)
    finally:
        os.close(descriptor)


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def listing(driver: Any) -> list[str]:
    return sorted(path.name for path in Path(driver.configuration.loop_volumes_dir).iterdir())


@contextmanager
def loop_device(path: Path) -> Iterator[Path]:
    found = subprocess.run(["losetup", "--find", "--show", str(path)], check=True, capture_output=True, text=True)
    device = Path(found.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", str(device)], check=True)


@contextmanager
def written_to(*paths: Path, pause: float = 0.0) -> Iterator[None]:
    """While inside, a rising 8-byte number is written to the start of each file, one file after the other."""
    stop, written = threading.Event(), threading.Event()

    def work() -> None:
        number = 0
        descriptors = [os.open(path, os.O_RDWR) for path in paths]
        while not stop.is_set():
            number += 1
            for descriptor in descriptors:
                os.pwrite(descriptor, number.to_bytes(8, "big"), 0)
            written.set()
            if pause:
                stop.wait(pause)
        for descriptor in descriptors:
            os.close(descriptor)

    thread = threading.Thread(target=work)
    thread.start()
    assert written.wait(60)
    try:
        yield
    finally:
        stop.set()
        thread.join()


class TestCinderInterface:
    @pytest.mark.parametrize(
        "contract",
        [
            volume_driver.VolumeDriverCore,
            volume_manageable_driver.VolumeListManageableDriver,
            volume_snapshotmanagement_driver.VolumeSnapshotManagementDriver,
            volume_snapshot_revert.VolumeSnapshotRevertDriver,
            volume_group_driver.VolumeGroupDriver,
        ],
        ids=lambda contract: contract.__name__,
    )
    def test_conforms(self, contract: type) -> None:
        assert issubclass(loop.LoopDriver, contract)
        for name, declared in inspect.getmembers(contract, inspect.isfunction):
            if name.startswith("_") or isinstance(getattr(loop.LoopDriver, name), property):
                continue
            wanted = list(inspect.signature(declared).parameters)
            # What a caller may pass by position or by name must be accepted under the same name.
            offered = inspect.signature(getattr(loop.LoopDriver, name)).parameters
            names = [key.lower() for key, value in offered.items() if value.kind is not inspect.Parameter.VAR_KEYWORD]
            wanted = [key.lower() for key in wanted if key != "kwargs"]
            assert names == (wanted[: len(names)] if len(names) < len(offered) else wanted), name

    def test_is_registered_with_its_options(self) -> None:
        assert loop.LoopDriver in interface._volume_register
        names = {option.name for option in loop.LoopDriver.get_driver_options()}
        assert {"loop_volumes_dir", "reserved_percentage", "max_over_subscription_ratio"} <= names
        assert re.fullmatch(r"\d+\.\d+\.\d+", loop.LoopDriver.VERSION)


class TestSetup:
    def test_makes_a_private_directory(self, make_driver: Callable[..., Any], tmp_path: Path) -> None:
        set_up(make_driver(tmp_path / "a" / "b"))
        assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
        assert list((tmp_path / "a" / "b").iterdir()) == []

    @pytest.mark.parametrize(
        ("value", "message"), [(None, "is not set"), ("volumes", "must be an absolute path, not 'volumes'")]
    )
    def test_needs_an_absolute_path(self, make_driver: Callable[..., Any], value: str | None, message: str) -> None:
        with pytest.raises(exception.InvalidConfigurationValue, match=f"loop_volumes_dir {message}"):
            set_up(make_driver(value))

    def test_needs_a_directory(self, make_driver: Callable[..., Any], tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(exception.InvalidConfigurationValue, match=r"loop_volumes_dir.*File exists"):
            set_up(make_driver(tmp_path / "file"))

    @pytest.mark.root
    def test_needs_to_write(self, make_driver: Callable[..., Any], mounts: dict[str, Path], tmp_path: Path) -> None:
        directory = mounts["host"] / "read-only"
        directory.mkdir()
        subprocess.run(["mount", "--bind", "-o", "ro", str(directory), str(directory)], check=True)
        try:
            with pytest.raises(exception.InvalidConfigurationValue, match=r"loop_volumes_dir.*Read-only file system"):
                set_up(make_driver(directory))
        finally:
            subprocess.run(["umount", str(directory)], check=True)

    def test_stats(self, driver: Any, filesystem: str) -> None:
        driver.create_volume(new_volume(3))
        stats = driver.get_volume_stats(refresh=True)
        pool = stats["pools"][0]
        total = os.statvfs(driver.configuration.loop_volumes_dir)
        assert stats["storage_protocol"] == "file"
        assert pool["pool_name"] == stats["volume_backend_name"] == driver.get_pool(new_volume())
        assert pool["total_capacity_gb"] == round(total.f_blocks * total.f_frsize / GIB, 2)
        assert 0 < pool["free_capacity_gb"] < pool["total_capacity_gb"]
        assert pool["provisioned_capacity_gb"] == 3
        assert pool["total_volumes"] == 1
        assert pool["max_over_subscription_ratio"] == 20.0
        assert pool["location_info"].endswith(driver.configuration.loop_volumes_dir)
        for ability in (
            "thin_provisioning_support",
            "multiattach",
            "online_extend_support",
            "consistent_group_snapshot_enabled",
        ):
            assert pool[ability] is True


class TestVolumes:
    def test_is_sparse_and_exact(self, driver: Any) -> None:
        volume = new_volume(7)
        assert driver.create_volume(volume) == {"provider_id": volume.name}
        assert path_of(driver, volume).stat().st_size == 7 * GIB
        assert allocated(path_of(driver, volume)) == 0
        assert path_of(driver, volume).stat().st_mode & 0o777 == 0o600
        assert listing(driver) == [volume.name]

    def test_never_replaces_a_file(self, plain: Any) -> None:
        volume, source = new_volume(), new_volume()
        plain.create_volume(volume)
        plain.create_volume(source)
        write(path_of(plain, volume), b"precious")
        with pytest.raises(exception.VolumeBackendAPIException, match="File exists"):
            plain.create_volume(volume)
        with pytest.raises(exception.VolumeBackendAPIException, match="File exists"):
            plain.create_cloned_volume(volume, source)
        assert read(path_of(plain, volume), 8) == b"precious"
        assert listing(plain) == sorted([volume.name, source.name])

    def test_delete_can_be_repeated(self, plain: Any) -> None:
        volume = new_volume()
        plain.create_volume(volume)
        plain.delete_volume(volume)
        plain.delete_volume(volume)
        plain.delete_snapshot(new_snapshot(volume))
        assert listing(plain) == []

    @pytest.mark.root
    def test_delete_refuses_an_attached_volume(self, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop, "_DETACH_TIMEOUT", 0.0)
        volume = new_volume()
        plain.create_volume(volume)
        with loop_device(path_of(plain, volume)), pytest.raises(exception.VolumeAttached):
            plain.delete_volume(volume)
        monkeypatch.undo()
        plain.delete_volume(volume)
        assert listing(plain) == []

    @pytest.mark.root
    def test_extend(self, plain: Any) -> None:
        volume = new_volume(2)
        plain.create_volume(volume)
        write(path_of(plain, volume), b"kept")
        with loop_device(path_of(plain, volume)) as device:
            plain.extend_volume(volume, 3)
            plain.extend_volume(volume, 3)
            subprocess.run(["losetup", "--set-capacity", str(device)], check=True)
            assert int(Path("/sys/block", device.name, "size").read_text()) * 512 == 3 * GIB
        assert read(path_of(plain, volume), 4) == b"kept"
        with pytest.raises(exception.ExtendVolumeError, match="more than the 1 GiB"):
            plain.extend_volume(volume, 1)
        assert path_of(plain, volume).stat().st_size == 3 * GIB

    def test_what_is_missing_is_named(self, plain: Any) -> None:
        volume = new_volume()
        snapshot = new_snapshot(volume)
        with pytest.raises(exception.VolumeNotFound, match=volume.id):
            plain.extend_volume(volume, 2)
        with pytest.raises(exception.VolumeNotFound, match=volume.id):
            plain.create_snapshot(snapshot)
        with pytest.raises(exception.VolumeNotFound, match=volume.id):
            plain.initialize_connection(volume, {})
        with pytest.raises(exception.SnapshotNotFound, match=snapshot.id):
            plain.create_volume_from_snapshot(new_volume(), snapshot)
        assert listing(plain) == []

    @pytest.mark.parametrize("name", ["../outside", ".hidden", "a/b"])
    def test_stays_in_its_directory(self, plain: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(objects.Volume, "name", name)
        with pytest.raises(exception.InvalidVolume, match="can't be the name of a file"):
            plain.create_volume(new_volume())

    def test_connection(self, plain: Any) -> None:
        volume = new_volume()
        plain.create_volume(volume)
        snapshot = new_snapshot(volume)
        plain.create_snapshot(snapshot)
        connector = {"host": "node"}
        plain.validate_connector(connector)
        assert plain.create_export(CONTEXT, volume, connector) is None
        assert plain.ensure_export(CONTEXT, volume) is None
        info = plain.initialize_connection(volume, connector)
        assert info["driver_volume_type"] == "local"
        assert info["data"] == {"device_path": str(path_of(plain, volume)), "volume_id": volume.id}
        read_only = plain.initialize_connection_snapshot(snapshot, connector)
        assert read_only["data"] == {"device_path": str(path_of(plain, snapshot)), "access_mode": "ro"}
        plain.terminate_connection(volume, connector, force=True)
        plain.terminate_connection(volume, None)
        plain.remove_export(CONTEXT, volume)

    def test_retype(self, plain: Any) -> None:
        diff: dict[str, Any] = {
            "qos_specs": {"read_iops_sec": (None, "100")},
            "extra_specs": {"multiattach": (None, "<is> True")},
            "encryption": {},
        }
        assert plain.retype(CONTEXT, new_volume(), {}, diff, {}) == (True, None)
        diff["encryption"] = {"cipher": (None, "aes-xts-plain64")}
        assert plain.retype(CONTEXT, new_volume(), {}, diff, {}) == (False, None)

    def test_migrated_volume_takes_the_name(self, plain: Any) -> None:
        original, new = new_volume(provider_location=None), new_volume(provider_location=None)
        plain.create_volume(new)
        write(path_of(plain, new), b"migrated")
        kept = plain.update_migrated_volume(CONTEXT, original, new, "in-use")
        assert kept == {"_name_id": new.id, "provider_location": None, "provider_id": new.name}
        taken = plain.update_migrated_volume(CONTEXT, original, new, "available")
        assert taken == {"_name_id": None, "provider_location": None, "provider_id": original.name}
        assert listing(plain) == [original.name]
        assert read(path_of(plain, original), 8) == b"migrated"


class TestCopies:
    def test_snapshot_clone_and_restore(self, driver: Any, directory: Path) -> None:
        volume = new_volume(2)
        driver.create_volume(volume)
        data = os.urandom(8 * MIB)
        write(path_of(driver, volume), data, 500 * MIB + 123)
        snapshot = new_snapshot(volume)
        assert driver.create_snapshot(snapshot) == {"provider_id": snapshot.name}
        write(path_of(driver, volume), b"later", 500 * MIB + 123)

        restored, clone = new_volume(3), new_volume(5)
        assert driver.create_volume_from_snapshot(restored, snapshot) == {"provider_id": restored.name}
        assert driver.create_cloned_volume(clone, volume) == {"provider_id": clone.name}
        driver.delete_volume(volume)

        assert read(path_of(driver, snapshot), len(data), 500 * MIB + 123) == data
        assert read(path_of(driver, restored), len(data), 500 * MIB + 123) == data
        assert read(path_of(driver, clone), len(data), 500 * MIB + 123) == b"later" + data[5:]
        for item, size in ((snapshot, 2), (restored, 3), (clone, 5)):
            assert path_of(driver, item).stat().st_size == size * GIB
            assert allocated(path_of(driver, item)) <= 9 * MIB
        assert listing(driver) == sorted([snapshot.name, restored.name, clone.name])

    @pytest.mark.parametrize("filesystem", REFLINK, indirect=True)
    def test_data_is_shared_where_the_filesystem_can(self, driver: Any, directory: Path) -> None:
        volume = new_volume()
        driver.create_volume(volume)
        write(path_of(driver, volume), os.urandom(64 * MIB))
        os.sync()
        before = os.statvfs(directory)
        snapshots = [new_snapshot(volume) for _ in range(8)]
        for snapshot in snapshots:
            driver.create_snapshot(snapshot)
        os.sync()
        after = os.statvfs(directory)
        assert (before.f_bavail - after.f_bavail) * after.f_frsize < 16 * MIB  # 8 copies would take 512
        for snapshot in snapshots:
            extents = subprocess.run(
                ["filefrag", "-v", str(path_of(driver, snapshot))], check=True, capture_output=True, text=True
            ).stdout
            rows = [line for line in extents.splitlines() if re.match(r"\s*\d+:", line)]
            assert rows and all("shared" in row for row in rows)

    @pytest.mark.root
    def test_copy_between_filesystems_passes_through_memory(self, mounts: dict[str, Path]) -> None:
        """The kernel neither shares nor copies by itself across two kinds of filesystem."""
        data = os.urandom(5 * MIB + 7)
        with (mounts["xfs"] / "source").open("w+b") as source, (mounts["btrfs"] / "target").open("w+b") as target:
            source.write(b"start")
            source.seek(100 * MIB + 1)
            source.write(data)
            source.truncate(GIB)
            source.flush()
            target.write(b"x" * MIB)  # whatever it held is gone afterwards
            target.flush()
            assert reflink.copy_file(source.fileno(), target.fileno()) is False
            assert os.fstat(target.fileno()).st_size == GIB
            assert os.fstat(target.fileno()).st_blocks * 512 < 8 * MIB
            assert os.pread(target.fileno(), 10, 0) == b"start" + bytes(5)
            assert os.pread(target.fileno(), len(data), 100 * MIB + 1) == data
        (mounts["xfs"] / "source").unlink()
        (mounts["btrfs"] / "target").unlink()

    def test_attached_volume_gives_what_was_written_to_its_device(self, driver: Any) -> None:
        volume = new_volume()
        driver.create_volume(volume)
        snapshot, clone = new_snapshot(volume), new_volume(2)
        with loop_device(path_of(driver, volume)) as device:
            descriptor = os.open(device, os.O_RDWR)
            try:
                os.pwrite(descriptor, b"only in the device's cache", 4096)
                assert attached_files.is_attached(path_of(driver, volume))
                driver.create_snapshot(snapshot)
                os.pwrite(descriptor, b"newer", 4096)
                driver.create_cloned_volume(clone, volume)
            finally:
                os.close(descriptor)
        assert read(path_of(driver, snapshot), 26, 4096) == b"only in the device's cache"
        assert (
            read(path_of(driver, clone), 26, 4096)
            == b"newerin the device's cache"[:5] + b"in the device's cache"[:0] + (b"only in the device's cache"[5:])
        )

    @pytest.mark.parametrize("filesystem", REFLINK, indirect=True)
    def test_shared_copy_succeeds_under_constant_writing(self, driver: Any) -> None:
        volume = new_volume()
        driver.create_volume(volume)
        snapshot = new_snapshot(volume)
        with written_to(path_of(driver, volume)):
            driver.create_snapshot(snapshot)
        assert int.from_bytes(read(path_of(driver, snapshot), 8), "big") > 0

    def test_a_copy_never_mixes_states(self, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Something is written during every try. A thread that writes all the time would not do: on a busy machine it
        stands still for longer than a copy takes, which is then in order."""
        volume = new_volume()
        snapshot = new_snapshot(volume)
        plain.create_volume(volume)
        write(path_of(plain, volume), os.urandom(2 * MIB), MIB)
        copy_file, tries = reflink.copy_file, []

        def copy_written_to(source: int, target: int) -> bool:
            shared = copy_file(source, target)
            tries.append(len(tries) + 1)
            write(path_of(plain, volume), tries[-1].to_bytes(8, "big"))
            return shared

        with monkeypatch.context() as patched:
            patched.setattr(volume_directory, "_CONSISTENCY_TIMEOUT", 0.2)
            patched.setattr(reflink, "copy_file", copy_written_to)
            with pytest.raises(
                exception.VolumeBackendAPIException, match="pause the writers, or keep loop_volumes_dir on"
            ):
                plain.create_snapshot(snapshot)
        assert listing(plain) == [volume.name]
        assert len(tries) > 1
        plain.create_snapshot(snapshot)
        assert read(path_of(plain, snapshot), 8) == tries[-1].to_bytes(8, "big")

    def test_sixteen_clones_at_once(self, driver: Any, filesystem: str) -> None:
        volume = new_volume()
        driver.create_volume(volume)
        data = os.urandom(4 * MIB)
        write(path_of(driver, volume), data, 64 * MIB)
        clones = [new_volume(1 + number % 3) for number in range(16)]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda clone: driver.create_cloned_volume(clone, volume), clones))
        assert listing(driver) == sorted(item.name for item in [volume, *clones])
        for clone in clones:
            assert path_of(driver, clone).stat().st_size == clone.size * GIB
            assert read(path_of(driver, clone), len(data), 64 * MIB) == data

    @pytest.mark.root
    def test_full_filesystem_leaves_nothing(self, make_driver: Callable[..., Any], tmp_path: Path) -> None:
        mount = tmp_path / "small"
        mount.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(mount)], check=True)
        try:
            driver = set_up(make_driver(mount))
            volume = new_volume()
            driver.create_volume(volume)
            write(path_of(driver, volume), os.urandom(10 * MIB))
            with pytest.raises(exception.VolumeBackendAPIException, match="No space left"):
                driver.create_snapshot(new_snapshot(volume))
            assert listing(driver) == [volume.name]
        finally:
            subprocess.run(["umount", str(mount)], check=True)


class TestRevert:
    def test_restores_data_and_keeps_the_size(self, driver: Any) -> None:
        volume = new_volume()
        driver.create_volume(volume)
        write(path_of(driver, volume), b"then")
        snapshot = new_snapshot(volume)
        driver.create_snapshot(snapshot)
        write(path_of(driver, volume), b"now!")
        driver.extend_volume(volume, 2)
        write(path_of(driver, volume), b"beyond", GIB + 5)
        driver.revert_to_snapshot(CONTEXT, volume, snapshot)
        assert not driver.snapshot_revert_use_temp_snapshot()
        assert path_of(driver, volume).stat().st_size == 2 * GIB
        assert read(path_of(driver, volume), 4) == b"then"
        assert read(path_of(driver, volume), 6, GIB + 5) == bytes(6)
        assert read(path_of(driver, snapshot), 4) == b"then"
        assert listing(driver) == sorted([volume.name, snapshot.name])

    @pytest.mark.root
    def test_refuses_an_attached_volume(self, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop, "_DETACH_TIMEOUT", 0.0)
        volume = new_volume()
        plain.create_volume(volume)
        snapshot = new_snapshot(volume)
        plain.create_snapshot(snapshot)
        write(path_of(plain, volume), b"now!")
        with loop_device(path_of(plain, volume)), pytest.raises(exception.VolumeAttached):
            plain.revert_to_snapshot(CONTEXT, volume, snapshot)
        assert read(path_of(plain, volume), 4) == b"now!"


class TestGroups:
    def test_life_of_a_group(self, driver: Any) -> None:
        group = objects.Group(CONTEXT, id=str(uuid.uuid4()))
        volumes = [new_volume(1), new_volume(2)]
        assert driver.create_group(CONTEXT, group) == {"status": "available"}
        for number, volume in enumerate(volumes):
            driver.create_volume(volume)
            write(path_of(driver, volume), b"volume %d" % number)
        assert driver.update_group(CONTEXT, group, add_volumes=volumes) == (None, None, None)

        taken = objects.GroupSnapshot(CONTEXT, id=str(uuid.uuid4()))
        snapshots = [new_snapshot(volume) for volume in volumes]
        update, updates = driver.create_group_snapshot(CONTEXT, taken, snapshots)
        assert update is None
        assert updates == [{"id": item.id, "status": "available", "provider_id": item.name} for item in snapshots]

        restored = [new_volume(4, snapshot_id=snapshot.id) for snapshot in reversed(snapshots)]
        _, updates = driver.create_group_from_src(CONTEXT, group, restored, taken, snapshots)
        assert [item["id"] for item in updates] == [volume.id for volume in restored]
        cloned = [new_volume(volume.size, source_volid=volume.id) for volume in volumes]
        driver.create_group_from_src(CONTEXT, group, cloned, source_group=group, source_vols=volumes)
        for number, (first, second) in enumerate(zip(reversed(restored), cloned, strict=True)):
            assert read(path_of(driver, first), 8) == read(path_of(driver, second), 8) == b"volume %d" % number
            assert path_of(driver, first).stat().st_size == 4 * GIB

        assert driver.delete_group_snapshot(CONTEXT, taken, snapshots) == (
            {"status": "deleted"},
            [{"id": item.id, "status": "deleted"} for item in snapshots],
        )
        driver.delete_group(CONTEXT, group, [*volumes, *restored, *cloned])
        assert listing(driver) == []

    @pytest.mark.root
    def test_failed_deletes_are_told_apart(self, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(loop, "_DETACH_TIMEOUT", 0.0)
        attached, free = new_volume(), new_volume()
        plain.create_volume(attached)
        plain.create_volume(free)
        with loop_device(path_of(plain, attached)):
            answer = plain.delete_group(CONTEXT, None, [attached, free])
        assert answer == (
            {"status": "error_deleting"},
            [{"id": attached.id, "status": "error_deleting"}, {"id": free.id, "status": "deleted"}],
        )

    def test_all_snapshots_or_none(self, driver: Any) -> None:
        volumes = [new_volume(), new_volume()]
        for volume in volumes:
            driver.create_volume(volume)
        first, taken = (new_snapshot(volume) for volume in volumes)
        driver.create_snapshot(taken)
        before = listing(driver)
        with pytest.raises(exception.VolumeBackendAPIException, match="File exists"):
            driver.create_group_snapshot(CONTEXT, None, [first, taken])
        assert listing(driver) == before

    def test_snapshots_show_one_moment(self, driver: Any) -> None:
        """A number is written to the first volume, then to the second: no snapshot may have it in the second alone."""
        volumes = [new_volume() for _ in range(4)]
        for volume in volumes:
            driver.create_volume(volume)
        with written_to(*(path_of(driver, volume) for volume in volumes), pause=0.02):
            for _ in range(10):
                snapshots = [new_snapshot(volume) for volume in volumes]
                driver.create_group_snapshot(CONTEXT, None, snapshots)
                numbers = [int.from_bytes(read(path_of(driver, item), 8), "big") for item in snapshots]
                assert numbers == sorted(numbers, reverse=True)
                assert numbers[0] - numbers[-1] <= 1


class TestManage:
    def test_adopts_a_file(self, plain: Any) -> None:
        volume = new_volume()
        (Path(plain.configuration.loop_volumes_dir) / "disk.raw").write_bytes(b"x" * 100)
        assert plain.manage_existing_get_size(volume, {"source-name": "disk.raw"}) == 1
        assert plain.manage_existing(volume, {"source-name": "disk.raw"}) == {"provider_id": volume.name}
        assert listing(plain) == [volume.name]
        assert path_of(plain, volume).stat().st_size == GIB
        assert read(path_of(plain, volume), 101) == b"x" * 100 + b"\0"
        plain.unmanage(volume)
        assert listing(plain) == [volume.name]
        assert plain.manage_existing(volume, volume.name) == {"provider_id": volume.name}

    def test_adopts_a_snapshot(self, plain: Any) -> None:
        volume = new_volume()
        plain.create_volume(volume)
        old, new = new_snapshot(volume), new_snapshot(volume)
        (path_of(plain, old)).touch()
        os.truncate(path_of(plain, old), GIB + 1)
        found = plain.get_manageable_snapshots([], None, None, None, [], [])
        assert found[0]["source_reference"] == {"source-name": None}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(objects.Snapshot, "exists", lambda *_: False)  # there is no database here
            assert plain.manage_existing_snapshot_get_size(new, found[0]["reference"]) == 2
            plain.manage_existing_snapshot(new, found[0]["reference"])
        plain.unmanage_snapshot(new)
        assert listing(plain) == sorted([volume.name, new.name])

    @pytest.mark.parametrize(
        "reference",
        [
            {"source-name": name}
            for name in ("", "missing", "../disk.raw", "/etc/passwd", ".hidden", "link", "folder", 5)
        ]
        + [{"source-id": "x"}, {}],
        ids=str,
    )
    def test_refuses_a_bad_reference(self, plain: Any, tmp_path: Path, reference: dict[str, Any]) -> None:
        directory = Path(plain.configuration.loop_volumes_dir)
        (tmp_path / "disk.raw").write_bytes(b"outside")
        (directory / ".hidden").touch()
        (directory / "link").symlink_to(tmp_path / "disk.raw")
        (directory / "folder").mkdir()
        with pytest.raises(exception.ManageExistingInvalidReference):
            plain.manage_existing_get_size(new_volume(), reference)
        with pytest.raises(exception.ManageExistingInvalidReference):
            plain.manage_existing(new_volume(), reference)

    @pytest.mark.root
    def test_refuses_what_is_in_use(self, plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        known, attached = new_volume(), new_volume()
        for volume in (known, attached):
            plain.create_volume(volume)
        monkeypatch.setattr(objects.Volume, "exists", lambda _, identifier: identifier == known.id)
        with pytest.raises(exception.ManageExistingAlreadyManaged, match=known.name):
            plain.manage_existing(new_volume(), {"source-name": known.name})
        with (
            loop_device(path_of(plain, attached)),
            pytest.raises(exception.ManageExistingInvalidReference, match="attached as a loop device"),
        ):
            plain.manage_existing(new_volume(), {"source-name": attached.name})
        assert listing(plain) == sorted([known.name, attached.name])

    @pytest.mark.root
    def test_lists_files_with_their_names(self, plain: Any) -> None:
        known, left, attached = new_volume(2), new_volume(3), new_volume(4)
        for volume in (known, left, attached):
            plain.create_volume(volume)
        snapshot = new_snapshot(known)
        plain.create_snapshot(snapshot)
        with loop_device(path_of(plain, attached)):
            found = plain.get_manageable_volumes([known], None, 100, 0, ["size"], ["asc"])
        expected = [
            (known, False, "already managed", known.id),
            (left, True, None, None),
            (attached, False, "attached as a loop device", None),
        ]
        assert found == [
            {
                "reference": {"source-name": volume.name},
                "size": volume.size,
                "safe_to_manage": safe,
                "reason_not_safe": reason,
                "cinder_id": cinder_id,
                "extra_info": None,
            }
            for volume, safe, reason, cinder_id in expected
        ]
        page = plain.get_manageable_volumes([], found[0]["reference"], 1, 0, ["size"], ["asc"])
        assert [entry["reference"] for entry in page] == [found[1]["reference"]]
        assert plain.get_manageable_snapshots([snapshot], None, None, None, ["reference"], ["asc"]) == [
            {
                "reference": {"source-name": snapshot.name},
                "size": 2,
                "safe_to_manage": False,
                "reason_not_safe": "already managed",
                "cinder_id": snapshot.id,
                "extra_info": None,
                "source_reference": {"source-name": known.name},
            }
        ]


CLONE = """
import signal
import sys
from oslo_service import backend
backend.init_backend(backend.BackendType.THREADING)
from cinder import context, objects
from cinder.volume import configuration
from oslo_config import cfg
objects.register_all()
from csi_plugin.storage.drivers import loop, reflink
copy_range = reflink._copy_range
reflink._copy_range = lambda *arguments: (copy_range(*arguments), signal.pause())
directory, source, target = sys.argv[1:]
settings = configuration.Configuration(loop.loop_opts, config_group="backend")
cfg.CONF.set_override("loop_volumes_dir", directory, group="backend")
driver = loop.LoopDriver(configuration=settings, host="host@loop")
driver.do_setup(None)
driver.check_for_setup_error()
volumes = [objects.Volume(context.get_admin_context(), id=id, _name_id=None, size=1) for id in (source, target)]
driver.create_cloned_volume(volumes[1], volumes[0])
"""


class TestCrash:
    def test_killed_copy_leaves_no_volume_and_is_cleaned_up(
        self, make_driver: Callable[..., Any], tmp_path: Path
    ) -> None:
        directory = tmp_path / "volumes"
        driver = set_up(make_driver(directory))
        volume, clone = new_volume(), new_volume()
        driver.create_volume(volume)
        write(path_of(driver, volume), os.urandom(32 * MIB), MIB)
        child = subprocess.Popen(
            [sys.executable, "-c", CLONE, str(directory), volume.id, clone.id], stderr=subprocess.PIPE
        )
        try:
            while not any(file.stat().st_blocks for file in directory.glob(f".{clone.name}.partial-*")):
                assert child.poll() is None, child.communicate()
                time.sleep(0.01)
            # Another driver that starts now leaves the copy alone.
            set_up(make_driver(directory))
            assert list(directory.glob(f".{clone.name}.partial-*"))
            assert not path_of(driver, clone).exists()
        finally:
            child.send_signal(signal.SIGKILL)
            child.communicate()
        assert child.returncode == -signal.SIGKILL
        assert len(listing(driver)) == 2
        assert [entry["reference"]["source-name"] for entry in driver.get_manageable_volumes([], 0, 9, 0, [], [])] == [
            volume.name
        ]
        driver = set_up(make_driver(directory))
        assert listing(driver) == [volume.name]
        driver.create_cloned_volume(clone, volume)
        assert listing(driver) == sorted([volume.name, clone.name])

    def test_half_done_rename_is_finished(self, plain: Any) -> None:
        """As a crash leaves it between the two steps of a rename."""
        volume = new_volume()
        source = Path(plain.configuration.loop_volumes_dir) / "disk.raw"
        source.write_bytes(b"data")
        path_of(plain, volume).hardlink_to(source)
        plain.manage_existing(volume, {"source-name": "disk.raw"})
        assert listing(plain) == [volume.name]
