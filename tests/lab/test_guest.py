"""The guest that all tests here run in."""

import os
from pathlib import Path

import pytest

DISKS = ("iscsi", "chap", "small", "small-more", "pool", "pool-more", "multipath", "nvme", "nfs", "ceph", "kept")


def test_the_guest_is_a_machine_of_its_own() -> None:
    assert os.uname().nodename == "storage-lab"
    assert Path("/proc/1/cmdline").read_bytes().split(b"\0")[1].endswith(b"/scripts/storage_lab_parts/init")


@pytest.mark.parametrize("disk", DISKS)
def test_the_guest_has_disks_by_name(disk: str) -> None:
    assert Path(f"/dev/disk/by-id/virtio-{disk}").is_block_device()


def test_the_checkout_is_the_hosts_and_only_results_go_back(tmp_path: Path) -> None:
    scratch = Path(__file__).parent / "written-in-the-guest"
    scratch.write_text("lost with the guest")
    assert Path(os.environ["STORAGE_LAB_RESULTS"]).is_mount()
    scratch.unlink()


@pytest.mark.parametrize("module", ["dm_thin_pool", "iscsi_target_mod", "iscsi_tcp", "nvmet_tcp", "nvme_tcp"])
def test_the_kernel_has_the_protocols(module: str) -> None:
    assert Path(f"/sys/module/{module}").is_dir()
