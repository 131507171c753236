"""Connection information, checked by its protocol before anything is saved or run.

It comes from the storage: an array that lies, or is not the one it should be, must get at nothing of the host with it.
Fields that are not in the table are read by no connector of os-brick's; their size is bounded all the same.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from csi_plugin.attachment import ceph_rules, share_options, storage_networks
from csi_plugin.attachment.connection_values import (
    EXPORT,
    FILE_BELOW,
    FLAG,
    HOST,
    IMAGE,
    MOST_ENTRIES,
    MOUNT_BASE,
    NAME,
    NAME_OF_PORT,
    NAMES_OF_PORTS,
    NFS_EXPORT,
    NODE_MAP,
    NVME_PORTAL,
    PATH,
    PORT,
    PORTAL,
    SCSI_NAME,
    TARGET_MAP,
    TEXT,
    TRANSPORT,
    UNIT,
    WORD,
    Kind,
    address_of,
    list_of,
    one_or_list_of,
    share_hosts,
)
from csi_plugin.attachment.errors import AttachmentError

FIELD = "publish_context.connection"
_MOST_BYTES = 256 * 1024
_MOST_DEPTH = 8

Fields = Mapping[str, Kind]

_ISCSI: Fields = {
    "target_portal": PORTAL,
    "target_portals": list_of(PORTAL),
    "target_iqn": SCSI_NAME,
    "target_iqns": list_of(SCSI_NAME),
    "target_lun": UNIT,
    "target_luns": list_of(UNIT),
    "target_discovered": FLAG,
    "auth_method": WORD,
    "auth_username": TEXT,
    "auth_password": TEXT,
    "discovery_auth_method": WORD,
    "discovery_auth_username": TEXT,
    "discovery_auth_password": TEXT,
    "addressing_mode": WORD,
}
_FIBRE_CHANNEL: Fields = {
    "target_wwn": NAMES_OF_PORTS,
    "target_wwns": list_of(NAME_OF_PORT),
    "target_lun": one_or_list_of(UNIT),
    "target_luns": list_of(UNIT),
    "initiator_target_map": TARGET_MAP,
    "addressing_mode": WORD,
}
_NVME: Fields = {
    "target_nqn": SCSI_NAME,
    "nqn": SCSI_NAME,
    "host_nqn": SCSI_NAME,
    "portals": list_of(NVME_PORTAL),
    "target_portal": HOST,
    "target_port": PORT,
    "transport_type": TRANSPORT,
    "vol_uuid": WORD,
    "volume_nguid": WORD,
    "ns_id": UNIT,
    "alias": WORD,
}
_RBD: Fields = {
    "name": IMAGE,
    "hosts": list_of(HOST),
    "ports": list_of(PORT),
    "cluster_name": WORD,
    "auth_username": WORD,
    "auth_enabled": FLAG,
}
_SHARE: Fields = {"export": EXPORT, "name": FILE_BELOW, "format": WORD}
_TABLE: Mapping[str, Fields] = {
    "iscsi": _ISCSI,
    "iser": _ISCSI,
    "fibre_channel": _FIBRE_CHANNEL,
    "nvme": _NVME,
    "nvmeof": _NVME,
    "rbd": _RBD,
    "nfs": {**_SHARE, "export": NFS_EXPORT},
    "glusterfs": _SHARE,
    "quobyte": _SHARE,
    "scality": _SHARE,
    "vzstorage": _SHARE,
    "local": {"device_path": PATH},
    "gpfs": {"device_path": PATH},
    "storpool": {"device_path": PATH, "volume": NAME, "client_id": WORD, "access_mode": WORD},
    "lightos": {"uuid": WORD, "subsysnqn": SCSI_NAME, "nsid": UNIT, "lightos_nodes": NODE_MAP},
    "scaleio": {"scaleIO_volname": TEXT, "scaleIO_volume_id": WORD, "serverIP": HOST, "serverPort": PORT},
    "huaweisdshypervisor": {"volume_id": WORD},
}
_REQUIRED: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "iscsi": (("target_portal", "target_portals"), ("target_iqn", "target_iqns"), ("target_lun", "target_luns")),
    "iser": (("target_portal", "target_portals"), ("target_iqn", "target_iqns"), ("target_lun", "target_luns")),
    "nvme": (("target_nqn", "nqn", "volume_replicas"),),
    "nvmeof": (("target_nqn", "nqn", "volume_replicas"),),
    "rbd": (("name",), ("hosts",), ("ports",)),
    "nfs": (("export",), ("name",)),
    "local": (("device_path",),),
}
"""Of each group, one."""
_OTHER: Fields = {"device_path": PATH}
_NO_DEVICE = ("vmdk",)
"""Protocols that give a file of their own making and no device: the connection names where it is written, and what."""
_LISTS = ("target_portals", "target_iqns", "target_luns")


class ConnectionRefused(AttachmentError):
    """Connection information has what no storage needs. Nothing was done. gRPC: FAILED_PRECONDITION."""


def check(connection_info: Any) -> None:
    """Raises ConnectionRefused, which names the field and what it may be; its value, which may be a secret, not."""
    if not isinstance(connection_info, dict) or not isinstance(connection_info.get("data"), dict):
        raise ConnectionRefused(f"{FIELD}: data must be a mapping of what the protocol needs")
    _check_size(connection_info)
    protocol = str(connection_info.get("driver_volume_type", "")).lower()
    data = connection_info["data"]
    if protocol in _NO_DEVICE:
        raise ConnectionRefused(f"{FIELD}: driver_volume_type is {protocol}, which gives a node no block device")
    for target, where in _targets(data):
        _check_fields(_TABLE.get(protocol, _OTHER), target, where)
    for names in _REQUIRED.get(protocol, ()):
        if not any(data.get(name) not in (None, "", []) for name in names):
            raise ConnectionRefused(f"{FIELD}: data must have {' or '.join(names)} for {protocol}")
    _check_special(protocol, connection_info)
    hosts = [host for target, _ in _targets(data) for host in _HOSTS.get(protocol, _no_hosts)(target)]
    if problem := storage_networks.fault(hosts, of_portals=protocol in _OF_PORTALS):
        raise ConnectionRefused(f"{FIELD}: {problem}")


def check_iscsi(data: dict[str, Any]) -> None:
    """The same for targets that discovery has found, as the lists of a connection. Raises ConnectionRefused."""
    _check_fields(_ISCSI, data, "discovery")
    if problem := storage_networks.fault(_iscsi_hosts(data), of_portals=True):
        raise ConnectionRefused(f"discovery: {problem}")


def _targets(data: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """What tells of a target, with its name: the data, and the replicas in it."""
    replicas = data.get("volume_replicas") or []
    if not isinstance(replicas, list | tuple) or len(replicas) > MOST_ENTRIES:
        raise ConnectionRefused(f"{FIELD}: data.volume_replicas must be a list of at most {MOST_ENTRIES}")
    found = [(data, "data")]
    for index, replica in enumerate(replicas):
        if not isinstance(replica, dict):
            raise ConnectionRefused(f"{FIELD}: data.volume_replicas[{index}] must be a mapping")
        found.append((replica, f"data.volume_replicas[{index}]"))
    return found


def _check_fields(fields: Fields, data: dict[str, Any], where: str) -> None:
    for name, kind in fields.items():
        value = data.get(name)
        if value is not None and value != "" and not kind.is_valid(value):
            raise ConnectionRefused(f"{FIELD}: {where}.{name} must be {kind.allowed}")


def _check_special(protocol: str, connection_info: dict[str, Any]) -> None:
    """What one field alone does not say."""
    data = connection_info["data"]
    if protocol in ("iscsi", "iser"):
        lengths = {len(data[name]) for name in _LISTS if data.get(name)}
        if len(lengths) > 1:
            raise ConnectionRefused(f"{FIELD}: data.{', data.'.join(_LISTS)} must have as many entries each")
    problems: dict[str, str | None] = {}
    if protocol == "rbd" and data.get("keyring"):
        problems["data.keyring"] = ceph_rules.keyring_fault(data["keyring"])
    if protocol == "rbd" and data.get("map_options"):
        problems["data.map_options"] = ceph_rules.map_options_fault(data["map_options"])
    if data.get("export") and data.get("options"):
        problems["data.options"] = share_options.fault(protocol, data["options"])
    base = connection_info.get("mount_point_base")
    if base and not MOUNT_BASE.is_valid(base):
        problems["mount_point_base"] = f"must be {MOUNT_BASE.allowed}"
    for name, problem in problems.items():
        if problem:
            raise ConnectionRefused(f"{FIELD}: {name} {problem}")


def _check_size(connection_info: dict[str, Any]) -> None:
    if _depth(connection_info) > _MOST_DEPTH or len(json.dumps(connection_info, default=str)) > _MOST_BYTES:
        raise ConnectionRefused(
            f"{FIELD} must have at most {_MOST_BYTES} bytes, and {_MOST_DEPTH} lists and mappings inside each other"
        )


def _depth(value: Any, at_least: int = 0) -> int:
    if at_least > _MOST_DEPTH or not isinstance(value, dict | list | tuple):
        return at_least
    inner = value.values() if isinstance(value, dict) else value
    return max((_depth(one, at_least + 1) for one in inner), default=at_least + 1)


def _no_hosts(data: dict[str, Any]) -> list[str]:
    return []


def _iscsi_hosts(data: dict[str, Any]) -> list[str]:
    return [address_of(portal) for portal in [data.get("target_portal"), *(data.get("target_portals") or [])] if portal]


def _nvme_hosts(data: dict[str, Any]) -> list[str]:
    return [host for host in [data.get("target_portal"), *(portal[0] for portal in data.get("portals") or [])] if host]


def _rbd_hosts(data: dict[str, Any]) -> list[str]:
    return list(data.get("hosts") or [])


def _share_hosts(data: dict[str, Any]) -> list[str]:
    return [*share_hosts(data["export"]), *share_options.hosts(data.get("options"))] if data.get("export") else []


def _gateway_hosts(data: dict[str, Any]) -> list[str]:
    return [data["serverIP"]] if data.get("serverIP") else []


def _node_hosts(data: dict[str, Any]) -> list[str]:
    return [node["target_portal"] for node in (data.get("lightos_nodes") or {}).values()]


_OF_PORTALS = ("iscsi", "iser", "nvme", "nvmeof", "scaleio", "lightos")
_HOSTS: Mapping[str, Callable[[dict[str, Any]], list[str]]] = {
    "iscsi": _iscsi_hosts,
    "iser": _iscsi_hosts,
    "nvme": _nvme_hosts,
    "nvmeof": _nvme_hosts,
    "rbd": _rbd_hosts,
    "scaleio": _gateway_hosts,
    "lightos": _node_hosts,
    **dict.fromkeys(("nfs", "glusterfs", "quobyte", "scality"), _share_hosts),
}
