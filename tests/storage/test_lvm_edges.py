"""Cinder's LVM driver and LIO target at their edges. The storage lab has them for real; here a stand-in for LVM's
programs keeps a group of volumes, and tells what was run in which order."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from oslo_concurrency import processutils

from csi_plugin.persistence.base import LeadershipLost
from csi_plugin.storage.cinder import driver_calls, exception, pool_facts
from csi_plugin.storage.cinder.adaptations import lio_targets, lvm_stats, lvm_thick, lvm_tools, nvmet_ports
from tests.support.csi import GIB, MIB

VOLUME, OTHER, SNAPSHOT = (f"0000000{number}-0000-4000-8000-000000000000" for number in range(3))


class Group:
    """A volume group, and the programs that work on it."""

    def __init__(self, free: int = 100 * GIB) -> None:
        self.free = free
        self.volumes: dict[str, dict[str, Any]] = {}
        self.ran: list[str] = []
        self.asks = False
        """Whether the free room has a filesystem of former times: lvcreate asks whether it may wipe that."""

    def add(self, name: str, size: int, attributes: str = "-wi-a-----", **facts: str) -> None:
        self.volumes[name] = {"lv_name": name, "lv_size": size, "lv_attr": attributes, **facts}

    def execute(self, *command: Any, **_: Any) -> tuple[str, str]:
        words = [str(word) for word in command]
        if words[0] == "env":
            words = words[2:]
        self.ran.append(" ".join(words))
        run: Callable[[list[str]], str] = getattr(self, f"_{words[0]}", lambda words: "")
        return run(words[1:]), ""

    def _named(self, words: list[str]) -> list[dict[str, Any]]:
        name = words[-1].partition("/")[2]
        if name and name not in self.volumes:
            raise processutils.ProcessExecutionError(stderr=f"  Failed to find logical volume {words[-1]}", exit_code=5)
        return [self.volumes[name]] if name else list(self.volumes.values())

    def _lvs(self, words: list[str]) -> str:
        fields = words[words.index("-o") + 1]
        if fields == "vg_name,name,size":
            return "".join(f"  vg {each['lv_name']} {each['lv_size'] / GIB:.2f}\n" for each in self._named(words))
        lines = ("|".join(str(each.get(name, "")) for name in fields.split(",")) for each in self._named(words))
        return "".join(f"  {line}\n" for line in lines)

    def _lvdisplay(self, words: list[str]) -> str:
        return f"  {self._named(words)[0]['lv_attr']}\n"

    def _lvcreate(self, words: list[str]) -> str:
        name = words[words.index("--name" if "--name" in words else "-n") + 1]
        is_snapshot = "--snapshot" in words
        if self.asks and "--yes" not in words:
            raise processutils.ProcessExecutionError(
                stdout=f"WARNING: xfs signature detected on /dev/vg/{name} at offset 0. Wipe it? [y/n]: [n]",
                stderr="  Aborted wiping of xfs.\n  Aborting. Failed to wipe start of new LV.",
                exit_code=5,
            )
        size = int(float(words[words.index("-L") + 1].removesuffix("g")) * GIB)
        self._take(size)
        self.add(name, size, "swi-a-s---" if is_snapshot else "-wi-a-----")
        return ""

    def _lvextend(self, words: list[str]) -> str:
        (volume,) = self._named(words)
        text = words[words.index("-L") + 1]
        size = volume["lv_size"] + int(text[1:-1]) * MIB if text.startswith("+") else int(text[:-1]) * GIB
        if size <= volume["lv_size"]:
            raise processutils.ProcessExecutionError(stderr="  New size matches existing size", exit_code=5)
        self._take(size - volume["lv_size"])
        volume["lv_size"] = size
        return ""

    def _lvremove(self, words: list[str]) -> str:
        (volume,) = self._named(words)
        del self.volumes[volume["lv_name"]]
        return ""

    def _take(self, size: int) -> None:
        if size > self.free:
            raise processutils.ProcessExecutionError(
                stderr='  Volume group "vg" has insufficient free space (0 extents)', exit_code=5
            )
        self.free -= size


class Item(dict[str, Any]):
    """A volume or snapshot as drivers read it: by attribute and by key."""

    def __getattr__(self, name: str) -> Any:
        return self["id" if name == "name_id" else name]


def volume(size: int = 1, volume_id: str = VOLUME, **specs: str) -> Any:
    volume_type = SimpleNamespace(extra_specs=specs) if specs else None
    return Item(id=volume_id, name=f"volume-{volume_id}", size=size, volume_type=volume_type)


def snapshot(size: int = 1) -> Any:
    name = f"snapshot-{SNAPSHOT}"
    return Item(id=SNAPSHOT, name=name, volume_size=size, volume_name=f"volume-{VOLUME}", volume=volume())


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch, library: None) -> Iterator[Group]:
    found = Group()
    monkeypatch.setattr("cinder.brick.local_dev.lvm.putils.execute", found.execute)
    monkeypatch.setattr("cinder.volume.volume_utils.copy_volume", lambda *_, **__: found.ran.append("copy"))
    monkeypatch.setattr("cinder.utils.clean_volume_file_locks", lambda *_: None)
    return found


def lvm_driver(group: Group, lvm_type: str = "default") -> Any:
    """Cinder's own, on the group."""
    from cinder.brick.local_dev.lvm import LVM
    from cinder.volume.drivers.lvm import LVMVolumeDriver

    driver = LVMVolumeDriver.__new__(LVMVolumeDriver)
    driver.configuration = SimpleNamespace(
        lvm_type=lvm_type, volume_group="vg", volume_clear="zero", lvm_mirrors=0, volume_dd_blocksize="1M"
    )
    driver._execute, driver._sparse_copy_volume = group.execute, False
    driver.vg = LVM.__new__(LVM)
    driver.vg.vg_name, driver.vg.vg_thin_pool = "vg", "vg-pool" if lvm_type == "thin" else None
    driver.vg._supports_snapshot_lv_activation = driver.vg._supports_lvchange_ignoreskipactivation = True
    lvm_tools.let_lvcreate_wipe(driver)
    driver.vg.set_execute(driver._execute)
    driver.vg.set_root_helper("")
    driver.target_driver = SimpleNamespace(
        extend_target=lambda _: group.ran.append("extend_target"), remove_export=lambda *_: None
    )
    lvm_thick.prepare(driver, wanted_type=lvm_type)
    return driver


def ran(group: Group, *programs: str) -> list[str]:
    return [line for line in group.ran if line.startswith(programs)]


@pytest.mark.parametrize(
    ("lvm_type", "specs", "zeroed"),
    [("default", {}, True), ("default", {lvm_thick.TRUSTED: "true"}, False), ("thin", {}, False)],
)
def test_a_new_thick_volume_shows_nothing_of_others(
    group: Group, lvm_type: str, specs: dict[str, str], zeroed: bool
) -> None:
    driver = lvm_driver(group, lvm_type)
    driver.vg.create_volume = lambda *_: group.add(f"volume-{VOLUME}", GIB)
    made = volume(**specs)
    driver_calls.create_volume(driver, made)
    device = f"/dev/mapper/vg-volume--{VOLUME.replace('-', '--')}"
    assert ran(group, "blkdiscard") == ([f"blkdiscard --force --zeroout --offset 0 {device}"] if zeroed else [])
    group.ran.clear()
    driver_calls.extend_volume(driver, made, 3)
    changes = ran(group, "lvextend", "blkdiscard", "extend_target")
    grown = f"blkdiscard --force --zeroout --offset {GIB} /dev/vg/volume-{VOLUME}"
    assert changes == [f"lvextend -L 3g vg/volume-{VOLUME}", *([grown] if zeroed else []), "extend_target"]
    group.ran.clear()
    driver_calls.extend_volume(driver, made, 3)  # again, as after a crash of the controller
    assert ran(group, "lvextend", "blkdiscard", "extend_target") == ["extend_target"]


def test_a_new_volume_may_be_where_another_filesystem_was(group: Group) -> None:
    """As after volumes that were deleted by hand, or on a disk that had been used: nobody is there to be asked."""
    group.asks = True
    driver = lvm_driver(group)
    driver_calls.create_volume(driver, volume())
    driver_calls.create_snapshot(driver, snapshot())
    assert set(group.volumes) == {f"volume-{VOLUME}", f"_snapshot-{SNAPSHOT}"}
    assert [line.split()[1] for line in ran(group, "lvcreate")] == ["--yes", "--yes"]
    assert not any("--yes" in line for line in ran(group, "lvs", "lvextend", "blkdiscard"))


def test_what_a_copy_has_more_than_its_source_is_zeroed(group: Group) -> None:
    driver = lvm_driver(group)
    group.add(f"volume-{VOLUME}", GIB)
    driver.configuration.volume_clear = "none"  # of the snapshot, which has no device here
    driver_calls.clone_volume(driver, volume(2, OTHER), volume())
    assert [line.split()[4] for line in ran(group, "blkdiscard")] == [str(GIB)]
    assert f"clone-snap-{OTHER}" not in group.volumes
    group.ran.clear()
    driver_calls.restore_snapshot(driver, volume(1, OTHER), snapshot())
    assert ran(group, "blkdiscard") == []


def test_a_snapshot_has_room_for_all_of_its_volume(group: Group) -> None:
    driver = lvm_driver(group)
    group.add(f"volume-{VOLUME}", 10 * GIB)
    driver_calls.create_snapshot(driver, snapshot(10))
    assert group.volumes[f"_snapshot-{SNAPSHOT}"]["lv_size"] == 10 * GIB + 41 * MIB
    del group.volumes[f"_snapshot-{SNAPSHOT}"]
    group.free = 10 * GIB
    driver.configuration.volume_clear = "none"  # which is not for snapshots that never were
    with pytest.raises(processutils.ProcessExecutionError, match="insufficient free space"):
        driver_calls.create_snapshot(driver, snapshot(10))
    assert list(group.volumes) == [f"volume-{VOLUME}"]


def test_a_snapshot_that_has_lost_its_data(group: Group) -> None:
    driver = lvm_driver(group)
    group.add(f"volume-{VOLUME}", GIB, "owi-a-s---")
    group.add("_snapshot-other", GIB, "swi-a-s---", snap_percent="40.5", lv_snapshot_invalid="unknown")
    group.add(f"_snapshot-{SNAPSHOT}", GIB, "swi-I-s---", snap_percent="100.00", lv_snapshot_invalid="snapshot invalid")
    stats: dict[str, Any] = {"pools": [{"pool_name": "p"}]}
    lvm_stats.complete(driver, stats)
    assert stats["pools"] == [
        {"pool_name": "p", pool_facts.INVALID_SNAPSHOTS: [SNAPSHOT], pool_facts.SNAPSHOT_PERCENT: 100.0}
    ]
    with pytest.raises(exception.InvalidSnapshot, match="is lost"):
        driver_calls.restore_snapshot(driver, volume(1, OTHER), snapshot())
    assert list(group.volumes) == [f"volume-{VOLUME}", "_snapshot-other", f"_snapshot-{SNAPSHOT}"]


@pytest.mark.parametrize(
    ("facts", "refusal"),
    [
        ({"metadata_percent": "12.50"}, None),
        ({"metadata_percent": "91.00"}, "is 91% full"),
        ({"metadata_percent": "20.00", "lv_health_status": "metadata_read_only"}, "metadata_read_only"),
    ],
)
def test_a_thin_pool_whose_metadata_fills_up_takes_nothing_new(
    group: Group, facts: dict[str, str], refusal: str | None
) -> None:
    group.add("vg-pool", 10 * GIB, "twi-aotz--", data_percent="10.00", **facts)
    stats: dict[str, Any] = {"pools": [{"pool_name": "p"}]}
    lvm_stats.complete(lvm_driver(group, "thin"), stats)
    (pool,) = stats["pools"]
    assert pool[pool_facts.METADATA_PERCENT] == float(facts["metadata_percent"])
    assert (refusal or "") in pool.get(pool_facts.REFUSAL, "")
    assert (pool_facts.REFUSAL in pool) == (refusal is not None)


@pytest.mark.parametrize("attributes", ["-wi-a-----", "-wi-------"])
def test_an_adopted_volume_of_an_odd_size_is_cleared_to_its_end_and_deleted(group: Group, attributes: str) -> None:
    group.add(f"volume-{VOLUME}", GIB * 3 // 2, attributes)
    driver_calls.delete_volume(lvm_driver(group), volume(2))
    assert group.volumes == {}
    programs = [line.split()[0] for line in ran(group, "lvchange", "blkdiscard", "lvremove")]
    assert programs == ["lvchange", "blkdiscard", "lvremove"]


def test_what_an_interrupted_clone_left_at_its_source_is_removed(group: Group) -> None:
    driver = lvm_driver(group)
    group.add(f"volume-{VOLUME}", GIB, "owi-a-s---")
    group.add(f"clone-snap-{OTHER}", GIB, "swi-a-s---")
    driver_calls.remove_inner_names(driver, volume(1, OTHER))
    assert list(group.volumes) == [f"volume-{VOLUME}"]


@pytest.mark.parametrize(
    ("act", "last"),
    [
        (lambda driver: driver_calls.create_volume(driver, volume()), "lvcreate"),
        (lambda driver: driver_calls.create_snapshot(driver, snapshot()), "lvcreate"),
        (lambda driver: driver_calls.delete_volume(driver, volume(2)), "lvs"),
        (lambda driver: driver_calls.remove_inner_names(driver, volume(1, OTHER)), "lvs"),
    ],
    ids=["create", "snapshot", "delete", "inner names"],
)
def test_no_command_follows_after_leadership_was_lost(group: Group, act: Callable[[Any], None], last: str) -> None:
    """Of those that are run beside the driver's own calls, too."""

    def check() -> None:
        if ran(group, last):
            raise LeadershipLost("another one may be active")

    group.add(f"volume-{VOLUME}", GIB)
    group.add(f"clone-snap-{OTHER}", GIB, "swi-a-s---")
    with pytest.raises(LeadershipLost):
        act(driver_calls.guarded(lvm_driver(group), before=check, backend="lvm"))
    assert group.ran[-1].startswith(last)
    assert len(ran(group, last)) == 1


def test_the_type_that_auto_chose_is_told(group: Group, caplog: pytest.LogCaptureFixture) -> None:
    lvm_thick.prepare(lvm_driver(group), wanted_type="auto")
    assert [record.levelname for record in caplog.records if "auto chose thick" in record.getMessage()] == ["WARNING"]


@pytest.mark.parametrize(("attributes", "warnings"), [("twi-aot---", 1), ("twi-aotz--", 0)])
def test_a_thin_pool_that_shows_old_blocks_is_told(
    group: Group, caplog: pytest.LogCaptureFixture, attributes: str, warnings: int
) -> None:
    group.add("vg-pool", GIB, attributes)
    lvm_driver(group, "thin")
    assert len([record for record in caplog.records if "without zeroing" in record.getMessage()]) == warnings


class Lio:
    """LIO as the kernel shows it, and Cinder's own target driver on it."""

    def __init__(self, folder: Path) -> None:
        from cinder.volume.targets.lio import LioAdm

        self.core, self.targets, self.ran = folder / "core", folder / "iscsi", list[tuple[str, ...]]()
        self.fails: set[str] = set()
        target_driver = LioAdm.__new__(LioAdm)
        target_driver.iscsi_target_prefix = "iqn.2010-10.org.openstack:"
        target_driver._execute = self.execute
        target_driver.configuration = SimpleNamespace(
            target_ip_address="192.0.2.1", target_secondary_ip_addresses=["2001:db8::1"], target_port=3260
        )
        self.driver = SimpleNamespace(target_driver=target_driver, terminate_connection=self._terminate)
        self.driver.validate_connector = lambda connector: None
        self.driver.create_export = self._create_export
        self.driver.remove_export = lambda *_: None
        self.iqn = f"iqn.2010-10.org.openstack:volume-{VOLUME}"

    def add(self, *, target: bool, backstore: bool) -> None:
        if target:
            (self.targets / self.iqn).mkdir(parents=True)
        if backstore:
            (self.core / "iblock_0" / self.iqn).mkdir(parents=True)

    def execute(self, *command: str, **_: Any) -> tuple[str, str]:
        self.ran.append(command[1:])
        if command[1] in self.fails:
            raise processutils.ProcessExecutionError(stderr="it fails", exit_code=1)
        if command[1] == "get-targets":
            return "\n".join(path.name for path in self.targets.glob("*")), ""
        if command[1] == "delete":
            for path in (self.targets / command[2], *self.core.glob(f"*/{command[2]}")):
                shutil.rmtree(path, ignore_errors=True)
        return "", ""

    def _terminate(self, volume: Any, connector: Any, **_: Any) -> None:
        self.driver.target_driver.terminate_connection(volume, connector)

    def _create_export(self, *_: Any) -> None:
        self.add(target=True, backstore=True)
        raise exception.ISCSITargetCreateFailed(volume_id=VOLUME)

    def left(self) -> list[str]:
        return [path.name for path in (*self.targets.glob("*"), *self.core.glob("*/*"))]


@pytest.fixture
def lio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: None) -> Lio:
    found = Lio(tmp_path)
    monkeypatch.setattr(lio_targets, "CORE", found.core)
    monkeypatch.setattr(lio_targets, "TARGETS", found.targets)
    return found


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_target_that_is_gone_is_detached(lio: Lio, is_gone: bool) -> None:
    lio.add(target=not is_gone, backstore=not is_gone)
    lio.fails.add("delete-initiator")
    exported = Item(id=VOLUME, name=f"volume-{VOLUME}", provider_location=f"192.0.2.1:3260,1 {lio.iqn} 0")
    with (
        lio_targets.detached_when_gone(lio.driver, exported)
        if is_gone
        else pytest.raises(exception.ISCSITargetDetachFailed)
    ):
        driver_calls.disconnect(lio.driver, exported, {"initiator": "iqn.node"}, last=True, force=False)


def test_half_a_target_is_removed_by_the_export_that_fails(lio: Lio) -> None:
    lio.add(target=False, backstore=True)  # of an earlier attempt
    new = Item(id=VOLUME, name=f"volume-{VOLUME}", provider_location=None)
    with pytest.raises(exception.ISCSITargetCreateFailed):
        driver_calls.connect(lio.driver, new, {"initiator": "iqn.node"}, save=lambda: None)
    assert lio.left() == []
    assert [command[0] for command in lio.ran] == ["delete", "save", "delete", "save"]


@pytest.mark.parametrize(
    ("parts", "lost", "left"),
    [
        ((), True, 0),
        (("acls/iqn.node", "np/192.0.2.1:3260"), True, 0),  # its device was not there when LIO restored it
        (("acls/iqn.node", "lun/lun_0/link/udev_path"), True, 0),
        (("np/192.0.2.1:3260", "lun/lun_0/link/udev_path"), True, 1),
        (("acls/iqn.node", "np/192.0.2.1:3260", "lun/lun_0/link/udev_path"), False, 1),
    ],
)
def test_what_a_target_has_lost_is_made_again(lio: Lio, parts: tuple[str, ...], lost: bool, left: int) -> None:
    for part in parts:
        (lio.targets / lio.iqn / "tpgt_1" / part).mkdir(parents=True)
    exported = Item(id=VOLUME, name=f"volume-{VOLUME}")
    assert lio_targets.has_lost(lio.driver, exported, [{"initiator": "iqn.NODE"}]) is lost
    assert len(lio.left()) == left
    portals = {path.name for path in (lio.targets / lio.iqn / "tpgt_1").glob("np/*")}
    assert portals in (set(), {"192.0.2.1:3260", "[2001:db8::1]:3260"})


@pytest.mark.parametrize(
    ("addresses", "message"),
    [
        (["192.0.2.1"], None),
        (["192.0.2.9"], "nvmet_port_id: port 1 of this host's nvmet is at 192.0.2.1:4420"),
        (["192.0.2.1", "192.0.2.2"], None),
        (["2001:db8::1"], "IPv4 only"),
    ],
)
def test_a_port_of_nvmet_has_the_address_that_is_wanted(
    library: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, addresses: list[str], message: str | None
) -> None:
    class NVMET:
        __module__ = "cinder.volume.targets.nvmet"
        target_ips, target_port, nvmet_port_id = addresses, 4420, 1

    monkeypatch.setattr(nvmet_ports, "PORTS", tmp_path)
    (tmp_path / "1").mkdir()
    (tmp_path / "1/addr_traddr").write_text("192.0.2.1\n")
    (tmp_path / "1/addr_trsvcid").write_text("4420\n")
    refused = pytest.raises(exception.InvalidConfigurationValue, match=message) if message else nullcontext()
    with refused:
        nvmet_ports.check(SimpleNamespace(target_driver=NVMET()))


def test_a_backstore_without_target_does_not_keep_its_volume(lio: Lio) -> None:
    lio.add(target=False, backstore=True)
    lio_targets.remove_rest(lio.driver, Item(id=VOLUME, name=f"volume-{VOLUME}"))
    assert lio.left() == []


def test_no_target_is_removed_after_leadership_was_lost(lio: Lio) -> None:
    def check() -> None:
        raise LeadershipLost("another one may be active")

    lio.add(target=False, backstore=True)
    with pytest.raises(LeadershipLost):
        lio_targets.remove_rest(driver_calls.guarded(lio.driver, before=check, backend="lvm"), volume())
    assert lio.left() == [lio.iqn]
