"""The backends of the storage lab, and what each can do: one place that the tests and the table at their end read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab import ceph, host, storage

FEATURES = (
    "block",
    "ext4",
    "xfs",
    "read-only",
    "expand online",
    "clone",
    "snapshot",
    "copies in use",
    "encryption",
    "library",
    "csi-sanity",
)
TESTS = ("test_raw_block", "test_filesystem", "test_encryption", "test_library", "test_csi_sanity")

LVM = "cinder.volume.drivers.lvm.LVMVolumeDriver"
LVM_OPTIONS = {"lvm_type": "thin", "target_ip_address": "127.0.0.1"}


@dataclass(frozen=True, kw_only=True, eq=False)
class LabBackend:
    """``make`` makes its storage; ``objects`` lists the volumes and snapshots in it, by name; ``lacks`` says for a
    feature of FEATURES why there is none; ``multipath``: on a node that attaches over all paths; ``check`` looks at an
    attached device for what is special about the protocol; ``tests``: those that run with it, not all where another
    backend has the same driver and target.
    """

    name: str
    driver: str
    options: Mapping[str, Any]
    make: Callable[[], None]
    objects: Callable[[], list[str]]
    protocol: str
    lacks: Mapping[str, str] = field(default_factory=dict)
    multipath: bool = False
    check: Callable[[Path], None] | None = None
    tests: tuple[str, ...] = TESTS

    @property
    def settings(self) -> dict[str, Any]:
        return {"name": self.name, "driver": self.driver, **self.options}

    def can(self, feature: str) -> bool:
        assert feature in FEATURES
        return feature not in self.lacks

    def mark(self, feature: str) -> str:
        """What the table says of a feature that was not shown."""
        return "-" if feature in self.lacks else "not run"


def lvm(name: str, options: Mapping[str, Any], **arguments: Any) -> LabBackend:
    """Thin volumes of LVM in a group on a disk of the backend's name."""
    return LabBackend(
        name=name,
        driver=LVM,
        options={**LVM_OPTIONS, "volume_group": name, **options},
        make=lambda: storage.volume_group(name),
        objects=lambda: storage.logical_volumes(name),
        **arguments,
    )


def python_path() -> list[str]:
    """Where the drivers find Python modules that are in no package registry."""
    return [str(Path(__file__).parent / "modules"), str(ceph.modules())]


LIO = {"target_helper": "lioadm", "target_protocol": "iscsi"}

BACKENDS = (
    lvm("iscsi", LIO, protocol="iSCSI"),
    lvm(
        "chap",
        {**LIO, "use_chap_auth": True},
        protocol="iSCSI with CHAP",
        check=host.check_chap,
        tests=("test_raw_block",),
    ),
    lvm(
        "nvme",
        {
            "target_helper": "nvmet",
            "target_protocol": "nvmet_tcp",
            "target_prefix": "nvme-subsystem",
            "target_port": 4420,
            "nvmet_port_id": 1,
            "nvmet_ns_id": 10,
            "nvmeof_conn_info_version": 2,
        },
        protocol="NVMe over TCP",
    ),
    LabBackend(
        name="nfs",
        driver="cinder.volume.drivers.nfs.NfsDriver",
        options={
            "nfs_shares_config": "/etc/cinderbox-nfs-shares",
            "nfs_mount_options": "vers=4.2",
            "nfs_snapshot_support": True,
            "nas_secure_file_operations": "false",
            "nas_secure_file_permissions": "false",
        },
        make=storage.nfs_server,
        objects=storage.nfs_files,
        protocol="NFS",
        lacks={
            "expand online": "the driver refuses to extend an attached volume (Launchpad bug 1870367)",
            "copies in use": "the driver asks Nova to copy an attached volume",
        },
    ),
    LabBackend(
        name="rbd",
        driver="cinder.volume.drivers.rbd.RBDDriver",
        options={
            "rbd_pool": ceph.POOL,
            "rbd_user": ceph.USER,
            "rbd_ceph_conf": "/etc/ceph/ceph.conf",
            "rbd_keyring_conf": str(ceph.KEYRING),
            "rbd_exclusive_cinder_pool": True,
        },
        make=ceph.start,
        objects=ceph.images,
        protocol="Ceph RBD",
    ),
    # Last: with it runs multipathd.
    LabBackend(
        name="multipath",
        driver=LVM,
        options={**LVM_OPTIONS, **LIO, "volume_group": "multipath", "target_secondary_ip_addresses": "127.0.0.2"},
        make=storage.multipath_volume_group,
        objects=lambda: storage.logical_volumes("multipath"),
        protocol="iSCSI over two paths",
        multipath=True,
        check=host.check_two_paths,
        tests=("test_raw_block", "test_encryption", "test_library"),
    ),
)
