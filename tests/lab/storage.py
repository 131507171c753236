"""The storage that the lab's backends are on, made on the guest's own disks: volume groups, an NFS server, Ceph."""

from pathlib import Path

from tests.lab.host import run

EXPORT = Path("/export")


def disk(name: str) -> str:
    """The guest's disk of that name; scripts/guest/boot gives it."""
    return f"/dev/disk/by-id/virtio-{name}"


def volume_group(name: str) -> None:
    """A volume group on the disk of the same name, unless there is one."""
    if name not in run("vgs", "--noheadings", "--options", "vg_name").split():
        run("vgcreate", name, disk(name))


def multipath_volume_group() -> None:
    """A volume group for volumes with two paths, and multipathd, which looks after those."""
    volume_group("multipath")
    if not Path("/run/multipathd.pid").exists():
        Path("/etc/multipath.conf").write_text('defaults { find_multipaths yes }\nblacklist { devnode "^vd" }\n')
        run("multipathd")


def logical_volumes(group: str) -> list[str]:
    """Volumes and snapshots in a group, without its thin pool."""
    names = run("lvs", "--noheadings", "--options", "lv_name", group).split()
    return sorted(name for name in names if name != f"{group}-pool")


def nfs_server() -> None:
    """An NFSv4 server with one share, /volumes, on a disk of its own: the guest's root cannot be exported."""
    if EXPORT.is_mount():
        return
    run("modprobe", "-a", "nfsd", "nfsv4")
    run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,nodiscard", disk("nfs"))
    for folder in (EXPORT, "/var/lib/nfs/v4recovery", "/var/lib/nfs/rpc_pipefs", "/run/rpcbind", "/etc/exports.d"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    run("mount", disk("nfs"), str(EXPORT))
    (EXPORT / "volumes").mkdir()
    run("mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
    for file in ("etab", "rmtab"):
        Path("/var/lib/nfs", file).touch()
    Path("/etc/exports").write_text(f"{EXPORT} 127.0.0.1(rw,sync,no_root_squash,no_subtree_check,insecure,fsid=0)\n")
    run("exportfs", "-ar")
    run("rpc.nfsd", "--no-nfs-version", "3", "--nfs-version", "4", "--grace-time", "10", "--lease-time", "10", "4")
    run("rpc.mountd", "--no-nfs-version", "2", "--no-nfs-version", "3")
    # Nobody had files open before this start, so there is nobody to wait for.
    Path("/proc/fs/nfsd/v4_end_grace").write_text("Y")
    Path("/etc/cinderbox-nfs-shares").write_text("127.0.0.1:/volumes\n")


def nfs_files() -> list[str]:
    return sorted(path.name for path in (EXPORT / "volumes").iterdir())
