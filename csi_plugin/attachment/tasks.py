"""What the node asks of its attachment process: one function for each task, with JSON's types in and out.

Every task takes the node's settings (``key_file``, ``multipath``, ``root_helper``). Those of a volume take besides:
``sealed``, its connection information in base64, sealed to the node; and ``publication``, "node id/volume id", which
the sealing is bound to and the volume's files and lock are named by.
"""

import base64
import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict

from csi_plugin import durable_files
from csi_plugin.addresses import address_of
from csi_plugin.attachment import connection_rules, devices, encryption, healing, storage_networks
from csi_plugin.attachment.connectors import connector_properties
from csi_plugin.attachment.errors import OtherHost
from csi_plugin.attachment.host_tables import device_size, is_write_protected
from csi_plugin.known_secrets import keep_secrets_of_driver
from csi_plugin.protocol.host_names import changed_properties
from csi_plugin.protocol.sealed_box import SealedBoxError, generate_private_key, open_from_controller, public_key_of
from csi_plugin.units import GIB

_PARTS = {"driver_volume_type": str, "data": dict, "volume_id": str, "size": int}
"""Of a connection, with their kinds. Others can seal to a node's key, too."""
_NONSENSE = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What comes of a connection in which something else is than should be."""


class Attached(TypedDict):
    """A volume that is attached."""

    device_info: dict[str, Any]
    """os-brick's."""
    device_path: str
    """The block device to use: the decrypted one of an encrypted volume."""
    size: int
    """Bytes of the attached device."""
    expected_size: int
    """Bytes of the volume, as the controller knows it."""
    encrypted: bool
    write_protected: bool
    """Whether the storage lets nobody write to the device, though it was attached for writing."""
    formatted: bool
    """Whether the volume has had a filesystem, as recorded with it: it is not given another one."""
    path_count: int
    """How many paths to the storage there should be, whether each is there now or not."""


def identify(*, key_file: str, multipath: bool, my_ip: str | None, root_helper: str) -> dict[str, Any]:
    """This node's public key (created with its private key when there is none) and connector properties.

    ``my_ip``: its address towards storage, or a name of it; None: the one that it uses towards others. A name is looked
    up here: what it means elsewhere could be another host.
    """
    public_key = public_key_of(_private_key(Path(key_file)))
    address = _own_address(my_ip) if my_ip else None
    properties = connector_properties(multipath=multipath, my_ip=address, root_helper=root_helper)
    return {"public_key": base64.b64encode(public_key).decode(), "connector": properties}


def _own_address(host: str) -> str:
    try:
        return address_of(host)
    except OSError as error:
        raise OSError(f"storage_network_ip: {host} has no address: {error.strerror}") from None


def check(*, key_file: str, sealed: str, publication: str, multipath: bool, root_helper: str) -> None:
    """Raise ConnectionRefused for a connection that no volume is attached with. Does nothing else."""
    _open_connection(key_file, sealed, publication)


def attach(
    *,
    key_file: str,
    sealed: str,
    publication: str,
    multipath: bool,
    root_helper: str,
    read_only: bool,
    secrets: dict[str, str],
    used_before: bool,
    connector: dict[str, Any] | None = None,
) -> Attached:
    """Attach a volume; an encrypted one is opened too. ``used_before``: it was encrypted before, as recorded.

    ``connector``: connector properties of this host; with them, a volume that was exported to another host, or to what
    this one was before, raises OtherHost.
    """
    connection_info = _open_connection(key_file, sealed, publication)
    _check_host(connection_info, connector)
    read_only = read_only or connection_info.get("attach_mode") == "ro"
    with _temporary_files(publication):
        device_info = devices.attach(connection_info, multipath=multipath, read_only=read_only, root_helper=root_helper)
        attached_path = device_path = str(device_info["path"])
        if connection_info.get("encryption"):
            try:
                device_path = encryption.open_device(
                    attached_path,
                    volume_id=connection_info["volume_id"],
                    encryption=connection_info["encryption"],
                    passphrase=encryption.passphrase_of(secrets),
                    used_before=used_before or bool(connection_info.get("formatted")),
                    read_only=read_only,
                )
            except Exception:
                # Whatever it was, the node gets no device from here that it could detach later.
                devices.detach(connection_info, device_info, multipath=multipath, root_helper=root_helper)
                raise
    return {
        "device_info": device_info,
        "device_path": device_path,
        "size": device_size(attached_path),
        "expected_size": int(connection_info["size"]) * GIB,
        "encrypted": bool(connection_info.get("encryption")),
        "write_protected": not read_only and is_write_protected(attached_path),
        "formatted": bool(connection_info.get("formatted")),
        "path_count": devices.expected_paths(
            connection_info, attached_path, multipath=multipath, root_helper=root_helper
        ),
    }


def heal(
    *,
    key_file: str,
    sealed: str,
    publication: str,
    multipath: bool,
    root_helper: str,
    read_only: bool,
    attached_path: str,
    attached_identity: str,
) -> dict[str, Any] | None:
    """Add the paths that an attached volume lacks, or bring back its device, whose path was ``attached_path``.

    Returns os-brick's device where that has gone and come back. Raises AttachmentError where nothing can be had.
    """
    connection_info = _open_connection(key_file, sealed, publication)
    read_only = read_only or connection_info.get("attach_mode") == "ro"
    with _temporary_files(publication):
        return healing.heal(
            connection_info,
            attached_path,
            identity=attached_identity,
            multipath=multipath,
            read_only=read_only,
            root_helper=root_helper,
        )


def find(*, key_file: str, sealed: str, publication: str, multipath: bool, root_helper: str) -> dict[str, Any] | None:
    """os-brick's device of a volume that is attached, and of which nothing is recorded; None where there is none."""
    connection_info = _open_connection(key_file, sealed, publication)
    with _temporary_files(publication):
        return healing.find(connection_info, multipath=multipath, root_helper=root_helper)


def detach(
    *,
    key_file: str,
    sealed: str,
    publication: str,
    multipath: bool,
    root_helper: str,
    device_info: dict[str, Any] | None,
    identity: str,
    encrypted: bool,
) -> None:
    """Take back attach, whatever part of it was done. ``identity``: of the device, empty where it is not known."""
    connection_info = _open_connection(key_file, sealed, publication, is_attached=True)
    with _temporary_files(publication, is_needed=False) as folder:
        if encrypted or connection_info.get("encryption"):
            encryption.close_device(connection_info["volume_id"])
        try:
            devices.detach(
                connection_info, device_info, multipath=multipath, root_helper=root_helper, identity=identity
            )
        except _NONSENSE as error:
            if device_info is not None:
                raise
            raise SealedBoxError(f"nothing can be attached with the connection: {error!r}") from error
        shutil.rmtree(folder, ignore_errors=not folder.exists())


def extend(
    *,
    key_file: str,
    sealed: str,
    publication: str,
    multipath: bool,
    root_helper: str,
    device_info: dict[str, Any],
    encrypted: bool,
    secrets: dict[str, str],
) -> int:
    """Let the node see the volume's new size; returns the bytes of the device that is used."""
    connection_info = _open_connection(key_file, sealed, publication, is_attached=True)
    with _temporary_files(publication):
        size = devices.extend(connection_info, device_info, multipath=multipath, root_helper=root_helper)
        if encrypted:
            volume_id = connection_info["volume_id"]
            encryption.resize_device(volume_id=volume_id, passphrase=encryption.passphrase_of(secrets))
            size = device_size(encryption.mapped_path(volume_id))
    return size


@contextlib.contextmanager
def _temporary_files(publication: str, *, is_needed: bool = True) -> Iterator[Path]:
    """A folder of the volume's own for os-brick's temporary files, Ceph's keyrings among them, which have random names.

    An attach that is cut off, or repeated, leaves files that nobody knows of; detach removes them with the folder, and
    goes on where the disk has no room for a new one (``is_needed`` False).
    """
    folder = Path(os.environ["TMPDIR"], hashlib.sha256(publication.encode()).hexdigest()[:32])
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        if is_needed or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
    tempfile.tempdir = str(folder)  # this process runs one task
    try:
        yield folder
    finally:
        tempfile.tempdir = None
        with contextlib.suppress(OSError):
            folder.rmdir()  # unless something in it is in use


def _open_connection(key_file: str, sealed: str, publication: str, *, is_attached: bool = False) -> dict[str, Any]:
    """Cinder's connection information, with what the controller adds: ``volume_id``, ``size`` (GiB), and, where it
    matters, ``attach_mode``, ``encryption`` and ``formatted``; ``exported_to``: what the host was then.

    Raises ConnectionRefused, unless the volume ``is_attached``: an earlier release may have known fewer rules, and
    what is there can always be released.
    """
    try:
        box = base64.b64decode(sealed, validate=True)
    except ValueError as error:
        raise SealedBoxError(f"the connection is no base64: {error}") from error
    data = open_from_controller(Path(key_file).read_bytes(), box, associated_data=publication.encode())
    try:
        connection_info: dict[str, Any] = json.loads(data)
        is_one = all(isinstance(connection_info[name], kind) for name, kind in _PARTS.items())
    except _NONSENSE as error:
        raise SealedBoxError(f"the connection cannot be read: {type(error).__name__}") from error
    if not is_one:
        raise SealedBoxError(f"the connection must have {', '.join(_PARTS)}")
    keep_secrets_of_driver(connection_info)
    storage_networks.keep_out_of(connection_info.pop("cluster_networks", []))
    if not is_attached:
        connection_rules.check(connection_info)
    return connection_info


def _check_host(connection_info: dict[str, Any], connector: dict[str, Any] | None) -> None:
    exported_to = connection_info.get("exported_to")
    if connector is None or not exported_to:
        return
    changed = changed_properties(exported_to, connector, protocol=str(connection_info["driver_volume_type"]))
    if changed:
        was = ", ".join(f"{name} {exported_to[name]}, and it is {connector.get(name)} here now" for name in changed)
        raise OtherHost(f"the volume was exported to {was}")


def _private_key(key_file: Path) -> bytes:
    """The node's key, generated at its first start. Written whole or not at all."""
    try:
        return key_file.read_bytes()
    except FileNotFoundError:
        pass
    durable_files.write(key_file, generate_private_key())
    return key_file.read_bytes()


TASKS: dict[str, Callable[..., Any]] = {
    "identify": identify,
    "check": check,
    "attach": attach,
    "heal": heal,
    "find": find,
    "detach": detach,
    "extend": extend,
}
