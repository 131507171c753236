"""os-brick's iSCSI connector, for a host on which volumes are in use while others come and go.

os-brick takes down everything of a volume whose connecting fails, waits for portals that are dead, and lets one volume
at a time come or go. Here, what is in use is never taken down, paths that are missing are added without touching the
others, dead portals are left out, and only volumes of the same target wait for each other.

Imports os-brick, so it is imported only where that is needed.
"""

import fcntl
import inspect
import logging
import os
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from os_brick import utils as brick_utils
from os_brick.initiator.connectors.iscsi import ISCSIConnector
from oslo_concurrency import lockutils
from oslo_config import cfg

from csi_plugin.attachment import connection_rules, device_use, host_tables, iscsi, iscsi_sessions, multipath
from csi_plugin.attachment.connection_rules import ConnectionRefused
from csi_plugin.attachment.errors import AttachmentError
from csi_plugin.attachment.iscsi_sessions import Session
from csi_plugin.attachment.waiting import waiting

LOG = logging.getLogger(__name__)

Target = tuple[str, str, int]
"""Portal, iSCSI name, and unit."""

_LOCKS = 64
"""Targets share this many locks, so that there is no file for each target that ever was."""
_SHARED_LOCK = struct.pack("hhqqi", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
"""struct flock, of the whole file."""
_HEALING_SCANS = 1
_MOST_LOGINS = 16
"""At a time, however many portals storage names."""
_LISTS = ("target_portals", "target_iqns", "target_luns")

# Without os-brick's decorators, of which one takes its lock.
_CONNECT = inspect.unwrap(ISCSIConnector.connect_volume)
_DISCONNECT = inspect.unwrap(ISCSIConnector.disconnect_volume)


class HostISCSIConnector(ISCSIConnector):  # type: ignore[misc]
    """Of os-brick's interface it has connect_volume, disconnect_volume and extend_volume."""

    # What is missing of an attached volume

    def own_targets(self, data: dict[str, Any]) -> list[Target]:
        """Where a volume can be reached: what its connection names, or what discovery found when it was connected."""
        data = _as_iscsiadm_wants(data)
        if self.use_multipath and not _names_all(data):
            try:
                return self._allowed_targets(self._get_ips_iqns_luns(data, discover=False, is_disconnect_call=True))
            except Exception as error:  # noqa: BLE001 - os-brick's errors have no common class
                # The host may have lost the record of the discovery.
                LOG.warning("what discovery found at %s is not known: %s", data["target_portal"], error)
        return self._check_targets(self._get_all_targets(data))

    def disks(self, data: dict[str, Any]) -> list[str]:
        """The kernel's names of the volume's disks that are there."""
        found = iscsi_sessions.sessions()
        return [name for target in self.own_targets(data) for name in _disks_at(target, found)]

    def foreign_paths(self, data: dict[str, Any], folder: Path) -> list[str]:
        """The paths of a multipath map, from its folder, that lead to no target of the volume's own, with where to."""
        own = set(self.disks(data))
        return [_describe(path) for path in host_tables.lower_devices(folder) if path.name not in own]

    def disconnect_own(self, data: dict[str, Any]) -> None:
        """Remove the volume's own disks and sessions, and no map that others have paths in. Errors are logged."""
        data = _as_iscsiadm_wants(data)
        with self._alone_on(data):
            self._cleanup_connection(data, force=True, ignore_errors=True, is_disconnect_call=True)

    def add_missing_paths(self, data: dict[str, Any]) -> list[str]:
        """Log in to the targets that have no session and can be reached, and let sessions show the volume.

        Whatever is there is left alone, also when this fails. Returns the names of the disks that are new. Raises
        AttachmentError when nothing can be had.
        """
        targets = self.own_targets(data)
        found = iscsi_sessions.sessions()
        missing = [target for target in targets if not _disks_at(target, found) and not _is_coming_back(target, found)]
        if not missing:
            raise AttachmentError("its sessions are there, or come back by themselves")
        reachable = self._reachable(missing)
        if not reachable:
            raise AttachmentError(f"{len(targets) - len(missing)} of {len(targets)} portals can be reached")
        state: dict[str, Any] = {
            **dict.fromkeys(("num_logins", "failed_logins", "stopped_threads"), 0),
            "stop_connecting": False,
            "found_devices": [],
            "just_added_devices": [],
        }
        with self._alone_on(data), ThreadPoolExecutor(min(len(reachable), _MOST_LOGINS)) as logins:
            for done in [
                logins.submit(self._connect_vol, _HEALING_SCANS, _for_target(data, target), state)
                for target in reachable
            ]:
                done.result()
        if not state["found_devices"]:
            portals = ", ".join(portal for portal, _, _ in reachable)
            raise AttachmentError(
                f"{len(reachable)} portals can be reached ({portals}), and show no disk of this volume"
            )
        return [str(name) for name in state["found_devices"]]

    def add_to_map(self, device_path: str) -> None:
        """Tell multipathd of a disk that is a path of a map that it has; it may know already."""
        self._linuxscsi.multipath_add_path(device_path)

    def wwid_of(self, disks: list[str]) -> str:
        """The name that udev gives disks of one volume; empty where that is not known."""
        return str(self._linuxscsi.get_sysfs_wwn(disks))

    # os-brick's own

    @brick_utils.connect_volume_prepare_result  # type: ignore[untyped-decorator]
    def connect_volume(self, connection_properties: dict[str, Any]) -> dict[str, Any]:
        """As os-brick's, but with a lock for each target, not one for all of the host, and without dead portals."""
        properties = _as_iscsiadm_wants(connection_properties)
        with self._alone_on(properties):
            found: dict[str, Any] = _CONNECT(self, properties)
        return found

    @brick_utils.connect_volume_undo_prepare_result(unlink_after=True)  # type: ignore[untyped-decorator]
    def disconnect_volume(
        self,
        connection_properties: dict[str, Any],
        device_info: dict[str, Any],
        force: bool = False,
        ignore_errors: bool = False,
    ) -> None:
        """As os-brick's, but with a lock for each target, not one for all of the host."""
        properties = _as_iscsiadm_wants(connection_properties)
        with self._alone_on(properties):
            _DISCONNECT(self, properties, device_info, force=force, ignore_errors=ignore_errors)
        if wwid := (device_info or {}).get("multipath_id"):
            # os-brick has told multipath of it, which would make a map of whatever has that name next.
            self._run_multipath(["-w", wwid], check_exit_code=False)

    def extend_volume(self, connection_properties: dict[str, Any]) -> Any:
        return super().extend_volume(_as_iscsiadm_wants(connection_properties))

    def _iscsiadm_update(
        self, connection_properties: dict[str, Any], property_key: str, *rest: Any, **options: Any
    ) -> Any:
        """Records are manual: a host that starts again must not log in by itself to what is elsewhere by now."""
        if property_key == "node.startup":
            rest = ("manual", *rest[1:])
        elif property_key == "node.session.scan":
            # What os-brick sets of a record first; iscsid.conf may make new ones automatic.
            super()._iscsiadm_update(connection_properties, "node.startup", "manual", check_exit_code=False)
        return super()._iscsiadm_update(connection_properties, property_key, *rest, **options)

    def _discover_iscsi_portals(self, connection_properties: dict[str, Any]) -> list[Any]:
        before = set(self._get_iscsi_nodes())
        found: list[Any] = super()._discover_iscsi_portals(connection_properties)
        for portal, name in set(self._get_iscsi_nodes()) - before:
            properties = {**connection_properties, "target_portal": portal, "target_iqn": name}
            super()._iscsiadm_update(properties, "node.startup", "manual", check_exit_code=False)
        return found

    def _recover_node_startup_values(self, connection_properties: dict[str, Any], old_node_startups: Any) -> None:
        for name, startup in self._get_node_startup_values(connection_properties).items():
            if name in old_node_startups and startup != old_node_startups[name]:
                properties = {**connection_properties, "target_iqn": name}
                super()._iscsiadm_update(properties, "node.startup", old_node_startups[name])

    def _connect_single_volume(self, connection_properties: dict[str, Any]) -> dict[str, Any]:
        targets = self._reachable_targets(self._check_targets(self._get_all_targets(connection_properties)))
        named = dict(zip(_LISTS, map(list, zip(*targets, strict=True)), strict=True))
        # Units are in the form of the addressing mode by now.
        properties = {key: value for key, value in connection_properties.items() if key != "addressing_mode"}
        found: dict[str, Any] = super()._connect_single_volume({**properties, **named})
        return found

    def _get_ips_iqns_luns(
        self, connection_properties: dict[str, Any], discover: bool = True, is_disconnect_call: bool = False
    ) -> list[tuple[Any, Any, Any]]:
        if discover and not _names_all(connection_properties):
            # Discovery asks this one portal.
            portal = str(connection_properties["target_portal"])
            self._reachable_targets([(portal, str(connection_properties["target_iqn"]), 0)])
        found: list[tuple[Any, Any, Any]] = super()._get_ips_iqns_luns(
            connection_properties, discover, is_disconnect_call
        )
        return list(self._reachable_targets(self._allowed_targets(found))) if discover else found

    def _cleanup_connection(
        self,
        connection_properties: dict[str, Any],
        ips_iqns_luns: list[tuple[Any, Any, Any]] | None = None,
        force: bool = False,
        ignore_errors: bool = False,
        device_info: dict[str, Any] | None = None,
        is_disconnect_call: bool = False,
    ) -> None:
        """After an attempt to connect that failed: unless what is there is in use, as of a volume that was attached."""
        if not is_disconnect_call:
            used = [name for name in self.disks(connection_properties) if _is_in_use(name)]
            if used:
                LOG.warning("connecting has failed; the disks %s are in use, and stay", ", ".join(used))
                return
        self._linuxscsi.find_sysfs_multipath_dm = _whole_map
        try:
            super()._cleanup_connection(
                connection_properties, ips_iqns_luns, force, ignore_errors, device_info, is_disconnect_call
            )
        finally:
            self._linuxscsi.find_sysfs_multipath_dm = multipath.map_over

    # Helpers

    def _check_targets(self, targets: list[tuple[Any, Any, Any]]) -> list[Target]:
        found = [(str(portal), str(name), int(unit)) for portal, name, unit in targets]
        portals, names, units = map(list, zip(*found, strict=True)) if found else ([], [], [])
        connection_rules.check_iscsi(dict(zip(_LISTS, (portals, names, units), strict=True)))
        return found

    def _allowed_targets(self, targets: list[tuple[Any, Any, Any]]) -> list[Target]:
        """What discovery found is the storage's word, as the connection is. Storage tells of all of its addresses,
        link-local ones among them: those that no storage may have are left out. Raises ConnectionRefused for none."""
        found: list[Target] = []
        refused: ConnectionRefused | None = None
        for target in targets:
            try:
                found += self._check_targets([target])
            except ConnectionRefused as error:
                LOG.warning("a target that discovery found is left out: %s", error)
                refused = error
        if refused is not None and not found:
            raise refused
        return found

    def _reachable(self, targets: list[Target]) -> list[Target]:
        if self._get_transport() == "iser":
            return targets  # not over TCP
        reachable = iscsi.reachable_portals([portal for portal, _, _ in targets])
        return [target for target in targets if target[0] in reachable]

    def _reachable_targets(self, targets: list[Target]) -> list[Target]:
        """The targets that can be logged in to now; the others are for healing. Raises AttachmentError for none."""
        sessions = iscsi_sessions.sessions()
        known = [target for target in targets if any(session.is_logged_in for session in _with(target, sessions))]
        unknown = [target for target in targets if target not in known]
        answering = {*known, *self._reachable(unknown)}
        if targets and not answering:
            portals = ", ".join(dict.fromkeys(portal for portal, _, _ in targets))
            raise AttachmentError(
                f"no portal of the storage answers this node ({portals}): look at the network to them"
            )
        if left_out := [portal for portal, name, unit in targets if (portal, name, unit) not in answering]:
            LOG.warning("the portals %s do not answer, and are left out for now", ", ".join(left_out))
        return [target for target in targets if target in answering]

    @contextmanager
    def _alone_on(self, data: dict[str, Any]) -> Iterator[None]:
        """Be the only one on this host that logs in to a volume's targets, which others may share, or out of them."""
        names = data.get("target_iqns") or [data["target_iqn"]]
        if self.use_multipath and not _names_all(data):
            slots = list(range(_LOCKS))  # what discovery finds is not known yet
        else:
            slots = sorted({zlib.crc32(str(name).encode()) % _LOCKS for name in names})
        with ExitStack() as locks:
            with waiting():
                locks.enter_context(_beside_os_brick())
                for slot in slots:
                    name = f"iscsi-targets-{slot}"
                    locks.enter_context(
                        lockutils.lock(name, "os-brick-", external=True, lock_path=cfg.CONF.os_brick.lock_path)
                    )
            yield


@contextmanager
def _beside_os_brick() -> Iterator[None]:
    """Not while a connector of os-brick's own, such as a driver's on this host, has its lock for the whole host; any
    number of these here at once."""
    path = Path(cfg.CONF.os_brick.lock_path, "os-brick-connect_volume")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        # A lock of the open file, not of the process, which may have several threads here.
        fcntl.fcntl(file, fcntl.F_OFD_SETLKW, _SHARED_LOCK)
        yield


def _as_iscsiadm_wants(data: dict[str, Any]) -> dict[str, Any]:
    """A connection's properties with portals in the form that iscsiadm takes, and prints."""
    found = dict(data)
    if data.get("target_portal"):
        found["target_portal"] = iscsi.with_brackets(str(data["target_portal"]))
    if data.get("target_portals"):
        found["target_portals"] = [iscsi.with_brackets(str(portal)) for portal in data["target_portals"]]
    return found


def _names_all(data: dict[str, Any]) -> bool:
    """Whether a connection names all portals; otherwise there is one to discover them from."""
    return "target_portals" in data and "target_iqns" in data


def _whole_map(disks: list[str]) -> str | None:
    """The map over the disks that are going to be removed, if it has no paths but these: others' is not flushed."""
    found = multipath.map_over(disks)
    if found is None:
        return None
    others = {path.name for path in host_tables.lower_devices(host_tables.named_folder(found))} - set(disks)
    if others:
        LOG.warning("the map %s stays, as it has the paths %s of others, too", found, ", ".join(sorted(others)))
    return None if others else found


def _describe(folder: Path) -> str:
    session = iscsi_sessions.session_of(folder)
    if session is None:
        return f"{folder.name} (of no iSCSI session)"
    portals = ", ".join(f"{address} port {port}" for address, port in sorted(session.portals))
    return f"{folder.name} ({session.target} at {portals})"


def _for_target(data: dict[str, Any], target: Target) -> dict[str, Any]:
    """A connection's properties for one of its targets, as os-brick wants them."""
    portal, name, unit = target
    one = {key: value for key, value in data.items() if key not in _LISTS}
    return {**one, "target_portal": portal, "target_iqn": name, "target_lun": unit}


def _disks_at(target: Target, sessions: list[Session]) -> list[str]:
    _, _, unit = target
    return [name for session in _with(target, sessions) for name in iscsi_sessions.units(session).get(unit, [])]


def _is_coming_back(target: Target, sessions: list[Session]) -> bool:
    """Whether the initiator has a session that it lost, and tries to have again: logging in would only wait for it."""
    return any(not session.is_logged_in for session in _with(target, sessions))


def _with(target: Target, sessions: list[Session]) -> list[Session]:
    portal, name, _ = target
    try:
        address = iscsi.portal_address(portal)
    except ValueError:
        return []
    return [session for session in sessions if session.is_with(address, name)]


def _is_in_use(disk: str) -> bool:
    folder: Path = host_tables.named_folder(disk)
    return device_use.is_in_use([folder])
