"""The backends of the storage lab, and what each can do: one place that the tests and the table at their end read."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab import ceph, data, host, storage

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
    "revert",
    "manage",
    "QoS",
    "several nodes",
    "capacity",
    "storage away",
    "node killed",
    "node cut off",
    "csi-sanity",
)
TESTS = (
    "test_raw_block",
    "test_filesystem",
    "test_encryption",
    "test_library",
    "test_revert",
    "test_manage",
    "test_several_nodes",
    "test_qos",
    "test_capacity",
    "test_storage_goes_away_and_comes_back",
    "test_node_is_killed",
    "test_node_that_is_cut_off_writes_no_more",
    "test_csi_sanity",
)
FEATURE_OF = {
    "test_revert": "revert",
    "test_manage": "manage",
    "test_several_nodes": "several nodes",
    "test_qos": "QoS",
    "test_node_that_is_cut_off_writes_no_more": "node cut off",
}
"""What there is nothing to test of where a backend lacks it."""

LVM = "cinder.volume.drivers.lvm.LVMVolumeDriver"
LVM_OPTIONS = {"lvm_type": "thin"}
NO_QOS = "the driver has none"
NO_REVERT = "the driver has none for thin volumes"


@dataclass(frozen=True, kw_only=True, eq=False)
class LabBackend:
    """A backend, and what the tests ask of it.

    ``make`` makes its storage. ``objects`` lists the volumes and snapshots in it, by name; ``room`` is how many GiB it
    says can be provisioned in it; ``outage`` takes it away for a while. ``lacks`` says for a feature of FEATURES why
    there is none. ``multipath``: on a node that attaches over all paths. ``make_volume`` makes one of 1 GiB without the
    driver and returns the checksum of what it wrote; ``read_as`` reads as another initiator; ``limits`` is what the
    storage knows of a volume's QoS; ``check`` looks at an attached device for what is special about the protocol.
    ``tests``: those that run with it, not all where another backend has the same driver and target.
    """

    name: str
    driver: str
    options: Mapping[str, Any]
    make: Callable[[], None]
    objects: Callable[[], list[str]]
    room: Callable[[], float]
    protocol: str
    outage: Callable[[], AbstractContextManager[None]]
    lacks: Mapping[str, str] = field(default_factory=dict)
    multipath: bool = False
    make_volume: Callable[[str], str] | None = None
    read_as: Callable[[Mapping[str, Any], str], str] | None = None
    limits: Callable[[str], dict[str, str]] | None = None
    check: Callable[[Path], None] | None = None
    tests: tuple[str, ...] = TESTS

    @property
    def settings(self) -> dict[str, Any]:
        # The disks are small: what is promised has to be more than they have, as with Cinder's own default.
        return {"name": self.name, "driver": self.driver, "max_over_subscription_ratio": "20", **self.options}

    def can(self, feature: str) -> bool:
        assert feature in FEATURES
        return feature not in self.lacks

    def runs(self, test: str) -> bool:
        """Whether a test runs with it: one of its own, whose feature it has."""
        return test in self.tests and FEATURE_OF.get(test) not in self.lacks

    def mark(self, feature: str) -> str:
        """What the table says of a feature that was not shown."""
        return "-" if feature in self.lacks else "not run"


def lvm(name: str, address: str, options: Mapping[str, Any], **arguments: Any) -> LabBackend:
    """Thin volumes of LVM in a group on a disk of the backend's name, served at an address of its own."""
    return LabBackend(
        name=name,
        driver=LVM,
        options={**LVM_OPTIONS, "volume_group": name, "target_ip_address": address, **options},
        outage=lambda: host.cut_off(address),
        make=lambda: storage.volume_group(name),
        objects=lambda: storage.logical_volumes(name),
        room=lambda: storage.room_in_pool(name),
        make_volume=lambda volume: storage.thin_volume(name, volume),
        **arguments,
    )


def python_path() -> list[str]:
    """Where the drivers find Python modules that are in no package registry."""
    return [str(Path(__file__).parent / "modules"), str(ceph.modules())]


FIRST_PATH, SECOND_PATH = "127.0.0.13", "127.0.0.14"
LIO = {"target_helper": "lioadm", "target_protocol": "iscsi"}

BACKENDS = (
    lvm(
        "iscsi",
        "127.0.0.11",
        LIO,
        protocol="iSCSI",
        read_as=data.read_over_iscsi_as,
        lacks={"QoS": NO_QOS, "revert": NO_REVERT},
        tests=(
            *TESTS,
            "test_controller_is_killed_and_the_target_has_forgotten_everything",
            "test_stale_device_of_a_number_that_another_volume_has_now",
            "test_unreadable_luks_header_is_never_formatted",
            "test_initiator_daemon_restarts",
            "test_twenty_volumes_on_one_node",
            "test_what_the_host_has_built_on_a_volume",
            "test_target_that_is_gone_is_detached",
            "test_backstore_without_target_does_not_keep_its_volume",
            "test_thin_volume_takes_discards",
        ),
    ),
    lvm(
        "small",
        "127.0.0.17",
        {**LIO, "lvm_type": "default"},
        protocol="iSCSI, thick",
        tests=(
            "test_new_thick_volume_shows_nothing_of_others",
            "test_full_group",
            "test_clone_that_was_killed_leaves_nothing",
        ),
    ),
    lvm(
        "pool",
        "127.0.0.18",
        LIO,
        protocol="iSCSI, small pool",
        tests=("test_full_thin_pool", "test_nothing_new_in_a_thin_pool_whose_metadata_is_nearly_full"),
    ),
    lvm(
        "chap",
        "127.0.0.12",
        {**LIO, "use_chap_auth": True},
        protocol="iSCSI with CHAP",
        check=host.check_chap,
        tests=("test_raw_block",),
    ),
    lvm(
        "nvme",
        "127.0.0.15",
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
        lacks={"QoS": NO_QOS, "revert": NO_REVERT},
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
        room=storage.nfs_room,
        protocol="NFS",
        outage=lambda: host.cut_off(storage.NFS_ADDRESS),
        lacks={
            "expand online": "the driver refuses to extend an attached volume (Launchpad bug 1870367)",
            "copies in use": "the driver asks Nova to copy an attached volume",
            "several nodes": "the driver has no multi-attach",
            "revert": "the driver has none",
            "manage": "the driver has no manage_existing",
            "QoS": NO_QOS,
            "node cut off": "a share knows no clients of a single file",
        },
        tests=(
            *TESTS,
            "test_what_looks_like_qcow2_is_data",
            "test_share_that_is_not_mounted_is_mounted_for_a_deletion",
        ),
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
        room=ceph.room,
        make_volume=ceph.make_image,
        limits=ceph.limits,
        protocol="Ceph RBD",
        outage=lambda: host.stopped("ceph-osd"),
        tests=(
            *TESTS,
            "test_quota_of_pool",
            "test_volume_whose_key_was_rotated",
            "test_clone_that_was_killed_leaves_nothing",
        ),
    ),
    # Last: with it runs multipathd.
    lvm(
        "multipath",
        FIRST_PATH,
        {**LIO, "target_secondary_ip_addresses": SECOND_PATH},
        protocol="iSCSI over two paths",
        multipath=True,
        check=host.check_two_paths,
        tests=(
            "test_raw_block",
            "test_encryption",
            "test_library",
            "test_paths_fail_and_return",
            "test_lost_path_is_connected_again",
            "test_path_that_was_away_when_staged_joins",
        ),
    ),
)
