"""Devices that dm-crypt decrypts, and where on the device below them their bytes are."""

import re

from csi_plugin.attachment import host_tables
from csi_plugin.attachment.programs import ProgramFailed, run

_OFFSET = re.compile(r"^\s*offset:\s*(\d+)", re.MULTILINE)
_SECTOR = 512


def lower_device(device_path: str) -> tuple[str, int] | None:
    """The encrypted device below a decrypted one, and the byte at which its contents begin; None for other devices.

    Raises OSError when there is no such device, and ProgramFailed.
    """
    folder = host_tables.device_folder(device_path)
    name = host_tables.crypt_name(folder)
    if name is None:
        return None
    text = run("cryptsetup", "status", name)
    offset = _OFFSET.search(text)
    if offset is None:
        raise ProgramFailed(["cryptsetup"], 0, f"status tells no offset: {text}")
    (lower,) = host_tables.lower_devices(folder)
    return f"/dev/{lower.name.replace('!', '/')}", int(offset[1]) * _SECTOR
