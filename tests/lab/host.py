"""What this machine has of storage: commands, and everything that a volume can leave behind on it."""

import os
import subprocess
from pathlib import Path


def run(*command: str, check: bool = True, stdin: str | None = None, timeout: float = 120) -> str:
    """What a command prints. Its errors are in the assertion that fails with it."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


def traces() -> dict[str, list[str]]:
    """All that attaching makes on a host, by kind; equal before and after a volume's life."""
    return {
        "SCSI devices": _names("/sys/class/scsi_device/*"),
        "iSCSI sessions": _names("/sys/class/iscsi_session/*"),
        "iSCSI node records": _names("/etc/iscsi/nodes/*"),
        "NVMe controllers": _names("/sys/class/nvme/*"),
        "NVMe namespaces": _names("/sys/block/nvme*"),
        "RBD devices": _names("/sys/bus/rbd/devices/*"),
        "NBD devices": [path.parent.name for path in Path("/sys/block").glob("nbd*/pid")],
        "device-mapper maps": sorted(
            line.split()[0]
            for line in run("dmsetup", "ls").splitlines()
            if line != "No devices found" and not _is_of_lvm(line.split()[0])
        ),
        "loop devices": [path.parent.parent.name for path in Path("/sys/block").glob("loop*/loop/backing_file")],
        "mounts": sorted(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if _is_volume(line)),
        "files of keys": _names("/tmp/**/brickrbd_*"),
    }


def exports() -> dict[str, list[str]]:
    """What the targets on this machine offer to initiators, by protocol."""
    return {
        "iSCSI targets": _names("/sys/kernel/config/target/iscsi/iqn*"),
        "LIO backstores": _names("/sys/kernel/config/target/core/iblock_*/*", without=("alua", "hba_info", "hba_mode")),
        "NVMe subsystems": _names("/sys/kernel/config/nvmet/subsystems/*"),
    }


def in_sysfs(device: Path) -> Path:
    """The kernel's folder of a block device."""
    number = device.stat().st_rdev
    return Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")


def check_two_paths(device: Path) -> None:
    """The device is a multipath map over two SCSI devices of different sessions."""
    assert (in_sysfs(device) / "dm/uuid").read_text().startswith("mpath-")
    paths = [(path / "device").resolve() for path in (in_sysfs(device) / "slaves").iterdir()]
    assert len({path.parents[2].name for path in paths}) == len(paths) == 2, paths


def check_chap(device: Path) -> None:
    """The target asks for a password, and the session gave it."""
    (target,) = Path("/sys/kernel/config/target/iscsi").glob("iqn*")
    assert (target / "tpgt_1/attrib/authentication").read_text().strip() == "1"
    (session,) = Path("/sys/class/iscsi_session").iterdir()
    (user,) = (target / "tpgt_1/acls").glob("*/auth/userid")
    assert (session / "username").read_text() == user.read_text()


def _names(pattern: str, without: tuple[str, ...] = ()) -> list[str]:
    return sorted(path.name for path in Path("/").glob(pattern.lstrip("/")) if path.name not in without)


def _is_of_lvm(name: str) -> bool:
    # The volume groups of the targets, which are on this same machine.
    return Path(f"/dev/mapper/{name}").exists() and run(
        "dmsetup", "info", "--columns", "--noheadings", "--options", "uuid", name
    ).startswith("LVM-")


def _is_volume(line: str) -> bool:
    source, target, filesystem = line.split()[:3]
    return filesystem in ("ext4", "xfs", "btrfs") and source.startswith("/dev/") and target != "/export"
