"""LVM as the adaptations of Cinder's LVM driver ask it: through the driver's own way of running programs."""

import math
from dataclasses import dataclass
from typing import Any

from oslo_concurrency import processutils

_FIELDS = (
    "lv_name",
    "lv_size",
    "lv_attr",
    "metadata_percent",
    "snap_percent",
    "lv_snapshot_invalid",
    "lv_health_status",
)


@dataclass(frozen=True, kw_only=True)
class LogicalVolume:
    """What ``lvs`` says of one."""

    name: str
    size: int
    """Bytes."""
    attributes: str
    metadata_percent: float | None
    """Of a thin pool: how full its metadata is."""
    snapshot_percent: float | None
    """Of a thick snapshot: how full the room is in which it keeps what has changed."""
    is_invalid: bool
    """Whether it is a thick snapshot that had no room left, and so has lost its data."""
    health: str
    """Empty when all is well."""


def is_lvm(driver: Any) -> bool:
    """Whether it is Cinder's LVM driver, or stands on it."""
    return any(cls.__name__ == "LVMVolumeDriver" for cls in driver.__class__.__mro__)


def is_thick(driver: Any) -> bool:
    """Whether it is an LVM driver, started, whose volumes have all of their room from the beginning."""
    return is_lvm(driver) and driver.configuration.lvm_type != "thin"


def let_lvcreate_wipe(driver: Any) -> None:
    """Before a driver's start: lvcreate may wipe what it finds in free room, such as a filesystem of a volume that was
    deleted by hand. It asks otherwise, takes no answer for no, and fails. Does nothing for other drivers."""
    if not is_lvm(driver):
        return
    execute = driver._execute

    def execute_with_yes(*command: Any, **options: Any) -> Any:
        if "lvcreate" in command:
            program = command.index("lvcreate")
            command = (*command[: program + 1], "--yes", *command[program + 1 :])
        return execute(*command, **options)

    driver._execute = execute_with_yes


def logical_volumes(driver: Any, name: str = "") -> list[LogicalVolume]:
    """Those of the driver's group, or the one of that name; none if it is not there. Raises ProcessExecutionError."""
    group = driver.vg.vg_name
    command = [*driver.vg.LVM_CMD_PREFIX, "lvs", "--noheadings", "--nosuffix", "--units", "b", "--separator", "|"]
    try:
        output, _ = driver.vg._run_lvm_command(
            [*command, "-o", ",".join(_FIELDS), f"{group}/{name}" if name else group]
        )
    except processutils.ProcessExecutionError as error:
        if name and ("not found" in str(error.stderr) or "Failed to find" in str(error.stderr)):
            return []
        raise
    return [_parse(line.strip()) for line in output.splitlines() if line.strip()]


def logical_volume(driver: Any, name: str) -> LogicalVolume | None:
    """The one of that name, or None."""
    return next(iter(logical_volumes(driver, name)), None)


def extend(driver: Any, name: str, *, by: int) -> None:
    """Make one larger by a number of bytes, rounded up to MiB. Raises ProcessExecutionError."""
    size = f"+{math.ceil(by / 1024**2)}m"
    driver.vg._run_lvm_command([*driver.vg.LVM_CMD_PREFIX, "lvextend", "-L", size, f"{driver.vg.vg_name}/{name}"])


def zero(driver: Any, path: str, *, start: int = 0) -> None:
    """Make a device read as zeros from a byte on, also while its target has it open. Raises ProcessExecutionError."""
    driver._execute("blkdiscard", "--force", "--zeroout", "--offset", str(start), path, run_as_root=True)


def _parse(line: str) -> LogicalVolume:
    values = dict(zip(_FIELDS, (value.strip() for value in line.split("|")), strict=True))
    return LogicalVolume(
        name=values["lv_name"],
        size=int(values["lv_size"]),
        attributes=values["lv_attr"],
        metadata_percent=_number(values["metadata_percent"]),
        snapshot_percent=_number(values["snap_percent"]),
        # Of what is no snapshot, or not active, it says "unknown".
        is_invalid=values["lv_snapshot_invalid"] in ("1", "snapshot invalid") or values["lv_attr"][4:5] in ("I", "S"),
        health=values["lv_health_status"],
    )


def _number(text: str) -> float | None:
    return float(text) if text else None
