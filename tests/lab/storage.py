"""The storage that the lab's backends are on, made on the guest's own disks: volume groups, an NFS server, Ceph."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.lab import data
from tests.lab.host import run
from tests.support.csi import GIB

EXPORT = Path("/export")
_MULTIPATH = """\
defaults {
    find_multipaths yes
    uxsock_timeout 60000
}
blacklist {
    devnode "^(vd|nvme|rbd|loop|dm-)"
}
"""
_NUMBER = 1_000_000
"""Of a thin pool's volumes, the first that LVM does not give out."""
_AT_ONCE = 50
"""Of those: emulated, a program starts in a second."""
FULL_MIB = 700
"""More than the disk of the group pool."""
NFS_ADDRESS = "127.0.0.16"


def disk(name: str) -> str:
    """The guest's disk of that name; scripts/storage_lab_parts/boot gives it."""
    return f"/dev/disk/by-id/virtio-{name}"


def volume_group(name: str) -> None:
    """A volume group on the disk of the same name, unless there is one."""
    if name not in run("vgs", "--noheadings", "--options", "vg_name").split():
        run("vgcreate", name, disk(name))
    run("vgchange", "--activate", "y", name)  # as systems do at their start


def grow(name: str) -> None:
    """Give a group the disk that is there for it, unless it has it."""
    if os.path.realpath(disk(f"{name}-more")) in run("pvs", "--noheadings", "--options", "pv_name").split():
        return
    run("vgextend", name, disk(f"{name}-more"))


def thin_pool_is_full(group: str) -> bool:
    used = run("lvs", "--noheadings", "--options", "data_percent", f"{group}/{group}-pool")
    return float(used) > 99.9


@contextlib.contextmanager
def full_metadata(group: str, percent: int) -> Iterator[None]:
    """In the block, a group's thin pool has that much of its metadata used, by volumes that LVM does not know."""
    pool = f"{group}-{group}--pool-tpool"
    numbers: list[int] = []
    try:
        while metadata_percent(group) < percent:
            more = range(_NUMBER + len(numbers), _NUMBER + len(numbers) + _AT_ONCE)
            numbers += more
            _send(pool, "create_thin", more)
        yield
    finally:
        for first in range(0, len(numbers), _AT_ONCE):
            _send(pool, "delete", numbers[first : first + _AT_ONCE])


def metadata_percent(group: str) -> float:
    return float(run("lvs", "--noheadings", "--options", "metadata_percent", f"{group}/{group}-pool"))


def _send(pool: str, message: str, numbers: Iterable[int]) -> None:
    words = " ".join(map(str, numbers))
    run("sh", "-ec", f'for number in {words}; do dmsetup message {pool} 0 "{message} $number"; done')


def grow_thin_pool(group: str) -> None:
    """Give a group's thin pool what the group has free."""
    run("lvextend", "--extents", "+90%FREE", f"{group}/{group}-pool")


def multipath_daemon() -> None:
    """multipathd, which looks after devices with several paths; unless it runs."""
    if not Path("/run/multipathd.pid").exists():
        Path("/etc/multipath.conf").write_text(_MULTIPATH)
        run("multipathd")


def logical_volumes(group: str) -> list[str]:
    """Volumes and snapshots in a group, without its thin pool."""
    names = run("lvs", "--noheadings", "--options", "lv_name", group).split()
    return sorted(name for name in names if name != f"{group}-pool")


def point_unit_at(target: str, volume: str) -> None:
    """Let the only unit of a volume's iSCSI target be another volume, or itself again, for all that are logged in."""
    from rtslib_fb import LUN, MappedLUN, RTSRoot

    root = RTSRoot()
    (group,) = [group for group in root.tpgs if group.parent_target.wwn.endswith(target)]
    (stored,) = [stored for stored in root.storage_objects if stored.name.endswith(volume)]
    for unit in list(group.luns):
        unit.delete()
    unit = LUN(group, 0, storage_object=stored)
    for initiator in group.node_acls:
        MappedLUN(initiator, 0, unit)


def portal_and_target(volume: str) -> tuple[str, str]:
    """Address and name of a volume's iSCSI target."""
    (target,) = Path("/sys/kernel/config/target/iscsi").glob(f"iqn*{volume}")
    (portal,) = (target / "tpgt_1/np").iterdir()
    return portal.name, target.name


def delete_target_alone(name: str) -> None:
    """Delete an iSCSI target, and leave its backstore."""
    from rtslib_fb import RTSRoot

    (target,) = [target for target in RTSRoot().targets if target.wwn == name]
    target.delete()


@contextlib.contextmanager
def failing_reads(group: str, volume: str) -> Iterator[None]:
    """Whatever is read from a logical volume, or written to it, is an error."""
    name = run("dmsetup", "info", "--columns", "--noheadings", "--options", "name", f"/dev/{group}/{volume}").strip()
    table = run("dmsetup", "table", name)
    _load_table(name, f"0 {table.split()[1]} error")
    try:
        yield
    finally:
        _load_table(name, table)


def _load_table(name: str, table: str) -> None:
    run("dmsetup", "suspend", "--nolockfs", name)
    run("dmsetup", "load", name, stdin=table)
    run("dmsetup", "resume", name)


def thin_volume(group: str, name: str) -> str:
    """A thin volume of 1 GiB with some data, whose checksum is returned."""
    run("lvcreate", "--thin", "--virtualsize", "1G", "--name", name, f"{group}/{group}-pool")
    return data.write_block(Path(f"/dev/{group}/{name}"))


def room_in_pool(group: str) -> float:
    """GiB that can be provisioned in a group's thin pool, at the lab's twenty times its size."""
    lines = run("lvs", "--noheadings", "--units", "b", "--nosuffix", "--options", "lv_name,lv_size", group).split("\n")
    sizes = {line.split()[0]: int(line.split()[1]) / GIB for line in lines if line.strip()}
    return 20 * sizes.pop(f"{group}-pool") - sum(sizes.values())


def mount_disk(name: str, folder: Path) -> bool:
    """Mount the disk of that name; False when it had no filesystem before."""
    made_before = "TYPE=" in run("blkid", "--probe", disk(name), check=False)
    if not made_before:
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,nodiscard", disk(name))
    folder.mkdir(exist_ok=True)
    run("mount", disk(name), str(folder))
    return made_before


def nfs_server() -> None:
    """An NFSv4 server with one share, /volumes, on a disk of its own: the guest's root cannot be exported."""
    if EXPORT.is_mount():
        return
    run("modprobe", "-a", "nfsd", "nfsv4")
    made_before = mount_disk("nfs", EXPORT)
    for folder in (EXPORT, "/var/lib/nfs/v4recovery", "/var/lib/nfs/rpc_pipefs", "/run/rpcbind", "/etc/exports.d"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    (EXPORT / "volumes").mkdir(exist_ok=made_before)
    run("mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
    for file in ("etab", "rmtab"):
        Path("/var/lib/nfs", file).touch()
    Path("/etc/exports").write_text(f"{EXPORT} 127.0.0.1(rw,sync,no_root_squash,no_subtree_check,insecure,fsid=0)\n")
    run("exportfs", "-ar")
    run("rpc.nfsd", "--no-nfs-version", "3", "--nfs-version", "4", "--grace-time", "10", "--lease-time", "10", "4")
    run("rpc.mountd", "--no-nfs-version", "2", "--no-nfs-version", "3")
    # Nobody had files open before this start, so there is nobody to wait for.
    Path("/proc/fs/nfsd/v4_end_grace").write_text("Y")
    Path("/etc/cinderbox-nfs-shares").write_text(f"{NFS_ADDRESS}:/volumes\n")


def nfs_files() -> list[str]:
    return sorted(path.name for path in (EXPORT / "volumes").iterdir())


def nfs_room() -> float:
    """GiB that can be provisioned on the share, at the lab's twenty times its size."""
    counts = os.statvfs(EXPORT)
    return 20 * counts.f_blocks * counts.f_frsize / GIB - sum(path.stat().st_size for path in _nfs_volumes()) / GIB


def _nfs_volumes() -> list[Path]:
    return list((EXPORT / "volumes").iterdir())
