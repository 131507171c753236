"""What this machine has of storage: commands, and everything that a volume can leave behind on it."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.polling import wait_until


def run(*command: str, check: bool = True, stdin: str | None = None, timeout: float = 120) -> str:
    """What a command prints. Its errors are in the assertion that fails with it."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


def traces() -> dict[str, list[str]]:
    """All that attaching and exporting make on a machine, by kind; equal before and after a volume's life."""
    return {
        **exports(),
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
        "files of keys": _files_of_keys(),
    }


def exports() -> dict[str, list[str]]:
    """What the targets on this machine offer to initiators, by protocol."""
    return {
        "iSCSI targets": _names("/sys/kernel/config/target/iscsi/iqn*"),
        "LIO backstores": _names("/sys/kernel/config/target/core/iblock_*/*", without=("alua", "hba_info", "hba_mode")),
        "NVMe subsystems": _names("/sys/kernel/config/nvmet/subsystems/*"),
    }


def nothing_is_left(before: dict[str, list[str]], objects: list[str]) -> None:
    """Nothing of any volume is on this machine or in its targets, beyond what was there before, or in a storage.

    ``objects``: what the storage has.
    """
    now = traces()
    left = {kind: sorted(set(now[kind]) ^ set(before[kind])) for kind in now if now[kind] != before[kind]}
    assert not left, left
    assert objects == [], objects


def iscsi_device(portal: str, target: str) -> Path:
    """Log in to a target as this machine's own initiator; the device of its only unit. The session stays."""
    return _logged_in(target, "iscsiadm", "--mode", "node", "--targetname", target, "--portal", portal)


def _logged_in(target: str, *node: str) -> Path:
    run(*node, "--op", "new")
    # The targets that Cinder makes in LIO always want a password.
    (granted, *_) = Path("/sys/kernel/config/target/iscsi").glob(f"{target}/tpgt_1/acls/*/auth")
    words = {"authmethod": "CHAP", "username": _word(granted / "userid"), "password": _word(granted / "password")}
    for name, value in words.items():
        run(*node, "--op", "update", "--name", f"node.session.auth.{name}", "--value", value)
    before = set(Path("/sys/class/iscsi_session").iterdir())
    run(*node, "--login")
    (session,) = set(Path("/sys/class/iscsi_session").iterdir()) - before
    run("udevadm", "settle")
    (device,) = (session / "device").glob("target*/*/block/*")
    return Path("/dev", device.name)


@contextlib.contextmanager
def iscsi_device_as(portal: str, target: str, initiator: str) -> Iterator[Path]:
    """The device of a target's only unit, for an initiator of another name on this same machine."""
    interface = ("iscsiadm", "--mode", "iface", "--interface", "other")
    node = ("iscsiadm", "--mode", "node", "--targetname", target, "--portal", portal, "--interface", "other")
    # There is one record for a target's portal: this makes it the other initiator's, and deletes it in the end.
    own_record = next(Path("/etc/iscsi/nodes", target).iterdir())
    kept = own_record.read_bytes()
    run(*interface, "--op", "new")
    run(*interface, "--op", "update", "--name", "iface.initiatorname", "--value", initiator)
    try:
        yield _logged_in(target, *node)
    finally:
        run(*node, "--logout", check=False)
        run(*interface, "--op", "delete")
        own_record.parent.mkdir(exist_ok=True)
        own_record.write_bytes(kept)


@contextlib.contextmanager
def cut_off(address: str) -> Iterator[None]:
    """Whatever this machine sends to one of its own addresses is lost, and nobody is told."""
    run("tc", "qdisc", "replace", "dev", "lo", "clsact")
    rule = ("dev", "lo", "ingress", "protocol", "ip", "pref", address.rpartition(".")[2])
    run("tc", "filter", "add", *rule, "flower", "dst_ip", address, "action", "drop")
    try:
        yield
    finally:
        run("tc", "filter", "del", *rule)


@contextlib.contextmanager
def stopped(program: str) -> Iterator[None]:
    """A program neither runs nor ends."""
    processes = [int(process) for process in run("pidof", program).split()]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


def log_out(address: str) -> None:
    """End the sessions with the targets at an address."""
    for node in Path("/etc/iscsi/nodes").glob(f"*/{address},*"):
        run("iscsiadm", "--mode", "node", "--targetname", node.parent.name, "--portal", address, "--logout")


def restart_initiator_daemon() -> None:
    """End iscsid, as an upgrade of its package does, and start it again."""
    for process in run("pidof", "iscsid").split():
        with contextlib.suppress(ProcessLookupError):  # it is two, of which one ends with the other
            os.kill(int(process), signal.SIGTERM)
    wait_until(lambda: not run("pidof", "iscsid", check=False).strip(), lambda: "iscsid does not end")
    run("iscsid")


def sessions() -> dict[str, str]:
    """State of the connections to iSCSI and NVMe targets, as the kernel has it."""
    files = [*Path("/sys/class/iscsi_session").glob("session*/state"), *Path("/sys/class/nvme").glob("nvme*/state")]
    return {file.parent.name: file.read_text().strip() for file in files}


def paths_of(device: Path) -> dict[str, str]:
    """State of the paths of a multipath map by address of their target, as the kernel's device mapper has it."""
    words = run("dmsetup", "status", (in_sysfs(device) / "dm/name").read_text().strip()).split()
    states: dict[str, str] = {}
    for path in (in_sysfs(device) / "slaves").iterdir():
        session = next(part for part in (path / "device").resolve().parts if part.startswith("session"))
        (connection,) = Path(f"/sys/class/iscsi_session/{session}/device").glob("connection*/iscsi_connection/*")
        number = (path / "dev").read_text().strip()
        if number in words:  # otherwise it joined after the kernel was asked
            states[(connection / "persistent_address").read_text().strip()] = words[words.index(number) + 1]
    return states


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


def _word(file: Path) -> str:
    return file.read_text().strip()


def _names(pattern: str, without: tuple[str, ...] = ()) -> list[str]:
    return sorted(path.name for path in Path("/").glob(pattern.lstrip("/")) if path.name not in without)


def _files_of_keys() -> list[str]:
    """os-brick's files with Ceph's keyrings. Containers' filesystems come and go meanwhile, and have none."""
    places = ("/tmp", "/var/lib/cinderbox")
    find = ("find", *places, "-name", "io.containerd.*", "-prune", "-o", "-name", "brickrbd_*", "-print")
    return sorted(Path(line).name for line in run(*find, check=False).splitlines())


def _is_of_lvm(name: str) -> bool:
    # The volume groups of the targets, which are on this same machine.
    return Path(f"/dev/mapper/{name}").exists() and run(
        "dmsetup", "info", "--columns", "--noheadings", "--options", "uuid", name
    ).startswith("LVM-")


def _is_volume(line: str) -> bool:
    source, target, filesystem = line.split()[:3]
    return filesystem in ("ext4", "xfs", "btrfs") and source.startswith("/dev/") and target != "/export"
