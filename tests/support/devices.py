"""Loop devices and mounts of one folder. Tests look at nothing else of the machine: others run beside them."""

import os
import subprocess
from pathlib import Path


def backing_file(device: str) -> str:
    """The file that a loop device shows; empty when it shows none. Its name may be another test's by then."""
    try:
        return os.fsdecode(Path("/sys/block", Path(device).name, "loop/backing_file").read_bytes().strip())
    except OSError:
        return ""


def backing_files() -> dict[str, str]:
    """The files of all loop devices of the machine, by device. Other tests attach and detach some meanwhile."""
    devices = [f"/dev/{found.parent.name}" for found in Path("/sys/block").glob("loop*/loop")]
    return {device: file for device in devices if (file := backing_file(device))}


def loop_devices(folder: Path) -> list[str]:
    """Loop devices whose file is in a folder."""
    return [device for device, file in backing_files().items() if file.startswith(f"{folder}/")]


def mounts_below(folder: Path) -> list[str]:
    """Mount points in a folder, in the order in which they were made."""
    lines = os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).rstrip("\n").split("\n")
    return [target for line in lines if (target := line.split(" ")[4]).startswith(f"{folder}/")]


def clean_up(folder: Path) -> None:
    """Unmount and detach whatever is left in a folder."""
    for target in reversed(mounts_below(folder)):
        subprocess.run(["umount", target], check=False)
    for device in loop_devices(folder):
        subprocess.run(["losetup", "--detach", device], check=False)
