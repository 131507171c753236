"""What the kernel tells of the filesystems that are mounted on this host. Nothing here changes anything."""

from pathlib import Path

_EXT4 = Path("/sys/fs/ext4")
_BTRFS = Path("/sys/fs/btrfs")


def ext4_error_count(device_path: str) -> int:
    """Errors that a mounted ext4 has recorded; 0 when it is not mounted."""
    try:
        text = (_EXT4 / Path(device_path).resolve().name / "errors_count").read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdecimal() else 0


def btrfs_error_count(device_path: str) -> int:
    """Errors that a mounted btrfs has recorded; 0 when it is not mounted."""
    name = Path(device_path).resolve().name
    lines = (
        line.split()
        for stats in _BTRFS.glob("*/devinfo/*/error_stats")
        if (stats.parents[2] / "devices" / name).exists()
        for line in stats.read_text(errors="surrogateescape").splitlines()
    )
    return sum(int(words[1]) for words in lines if len(words) == 2 and words[1].isdecimal())


def btrfs_devices(uuid: str) -> set[str]:
    """Names of the devices of the mounted btrfs of that UUID; empty when none is mounted."""
    devices = _BTRFS / uuid / "devices"
    return {entry.name for entry in devices.iterdir()} if uuid and devices.is_dir() else set()
