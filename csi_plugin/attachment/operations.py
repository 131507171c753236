"""What the node asks of its attachment process: one function for each operation, with JSON's types in and out.

Modules that are slow to import are imported by the operations that use them.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from csi_plugin.units import GIB


def identify(*, key_file: str, multipath: bool, my_ip: str | None, root_helper: str) -> dict[str, Any]:
    """This node's public key (made with its private key when there is none) and connector properties."""
    import base64

    from csi_plugin.attachment import connector_properties
    from csi_plugin.protocol.sealed_box import public_key_of

    public_key = public_key_of(_private_key(Path(key_file)))
    properties = connector_properties(multipath=multipath, my_ip=my_ip, root_helper=root_helper)
    return {"public_key": base64.b64encode(public_key).decode(), "connector": properties}


def attach(
    *,
    key_file: str,
    sealed: str,
    context: str,
    multipath: bool,
    root_helper: str,
    read_only: bool,
    secrets: dict[str, str],
    used_before: bool,
) -> dict[str, Any]:
    """Attach a sealed connection; encrypted volumes are opened too.

    Returns ``device`` (os-brick's), ``path`` (the device to use), ``size`` and ``planned_bytes``, ``encrypted``, and
    ``paths``: how many it should have, whether each is there now or not.
    """
    from csi_plugin.attachment import devices, encryption

    plan = _opened(key_file, sealed, context)
    read_only = read_only or plan.get("attach_mode") == "ro"
    with _temporary_files(context):
        device = devices.attach(plan, multipath=multipath, read_only=read_only, root_helper=root_helper)
        path = str(device["path"])
        if plan.get("encryption"):
            try:
                path = encryption.open_device(
                    path,
                    volume_id=plan["volume_id"],
                    encryption=plan["encryption"],
                    passphrase=encryption.passphrase_of(secrets),
                    used_before=used_before,
                    read_only=read_only,
                )
            except Exception:
                # Whatever it was, the node gets no device from here that it could detach later.
                devices.detach(plan, device, multipath=multipath, root_helper=root_helper)
                raise
    return {
        "device": device,
        "path": path,
        "size": devices.size_of(str(device["path"])),
        "planned_bytes": int(plan["size"]) * GIB,
        "encrypted": bool(plan.get("encryption")),
        "paths": max(devices.paths_of(str(device["path"])), len(devices.portals_of(plan)) if multipath else 1),
    }


def reconnect(
    *, key_file: str, sealed: str, context: str, multipath: bool, root_helper: str, read_only: bool, paths: int
) -> dict[str, Any]:
    """Connect again whatever is lost of an attached volume that has that many paths left; returns os-brick's device.

    LUKS is left as it is. Raises AttachmentError at once where no more paths can be had.
    """
    from csi_plugin.attachment import devices

    plan = _opened(key_file, sealed, context)
    portals = devices.portals_of(plan)
    if portals and (answer := devices.answering(portals)) <= paths:
        raise devices.AttachmentError(f"{answer} of {len(portals)} portals answer")
    read_only = read_only or plan.get("attach_mode") == "ro"
    with _temporary_files(context):
        return devices.attach(plan, multipath=multipath, read_only=read_only, root_helper=root_helper)


def detach(
    *,
    key_file: str,
    sealed: str,
    context: str,
    multipath: bool,
    root_helper: str,
    device: dict[str, Any] | None,
    encrypted: bool,
) -> None:
    """Undo attach, whatever part of it was done."""
    from csi_plugin.attachment import devices, encryption

    plan = _opened(key_file, sealed, context)
    with _temporary_files(context) as folder:
        if encrypted or plan.get("encryption"):
            encryption.close_device(plan["volume_id"])
        devices.detach(plan, device, multipath=multipath, root_helper=root_helper)
        shutil.rmtree(folder)


def extend(
    *,
    key_file: str,
    sealed: str,
    context: str,
    multipath: bool,
    root_helper: str,
    device: dict[str, Any],
    encrypted: bool,
    secrets: dict[str, str],
) -> int:
    """Let the node see the volume's new size; returns the bytes of the device that is used."""
    from csi_plugin.attachment import devices, encryption

    plan = _opened(key_file, sealed, context)
    with _temporary_files(context):
        size = devices.extend(plan, device, multipath=multipath, root_helper=root_helper)
    if encrypted:
        encryption.resize_device(volume_id=plan["volume_id"], passphrase=encryption.passphrase_of(secrets))
        size = devices.size_of(encryption.mapped_path(plan["volume_id"]))
    return size


@contextlib.contextmanager
def _temporary_files(context: str) -> Iterator[Path]:
    """A folder of the volume's own for os-brick's temporary files, Ceph's keyrings among them, which have random names.

    An attach that is cut off, or repeated, leaves files that nobody knows of; detach removes them with the folder.
    """
    folder = Path(os.environ["TMPDIR"], hashlib.sha256(context.encode()).hexdigest()[:32])
    folder.mkdir(mode=0o700, exist_ok=True)
    tempfile.tempdir = str(folder)  # this process runs one operation
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # unless something in it is in use


def _opened(key_file: str, sealed: str, context: str) -> dict[str, Any]:
    import base64

    from csi_plugin.protocol.sealed_box import open_from_controller

    data = open_from_controller(Path(key_file).read_bytes(), base64.b64decode(sealed), context=context.encode())
    plan: dict[str, Any] = json.loads(data)
    return plan


def _private_key(key_file: Path) -> bytes:
    """The node's key, made at its first start. Written whole or not at all."""
    from csi_plugin.protocol.sealed_box import generate_private_key

    try:
        return key_file.read_bytes()
    except FileNotFoundError:
        pass
    partial = key_file.with_name(f".{key_file.name}.{os.getpid()}")
    file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, generate_private_key())
        os.fsync(file)
    finally:
        os.close(file)
    partial.rename(key_file)
    return key_file.read_bytes()


OPERATIONS: dict[str, Callable[..., Any]] = {
    "identify": identify,
    "attach": attach,
    "reconnect": reconnect,
    "detach": detach,
    "extend": extend,
}
