"""What Cinder's RBD driver does not do when a connection ends: keep the host from writing on.

Its terminate_connection does nothing, since a host that unmapped the image has nothing left. One that could not (its
network failed, or its container manager) has the image open still, or will have when its network is back, with data
that it has yet to write. Ceph knows such clients: they watch the image, or hold its exclusive lock. They are put on
Ceph's blocklist before the connection is forgotten; what they send is refused from then on.
"""

import ipaddress
import json
import logging
import time
from collections.abc import Mapping
from typing import Any

from cinder import exception

from csi_plugin.instrumentation.tracing import before_call

LOG = logging.getLogger(__name__)

_EXPIRY_SECONDS = 5.0 * 365 * 24 * 3600
"""An entry is for one client that never comes back under the same address: a host that maps the image again is another
client. Ceph's own hour would let one write that was away for longer. A whole number is refused as no number."""

_LOOKS, _LOOK_SECONDS = 10, 0.5


def fence(driver: Any, volume: Any, connector: Mapping[str, Any] | None, *, last: bool, force: bool) -> None:
    """Put the clients on the blocklist that a host has left behind at a volume. Does nothing for other drivers.

    ``connector``: the host's, whose ``ip`` tells its clients from others'; None: every host. ``last``: no other host
    has the volume, so that whoever uses it is not allowed to. Raises cinder.exception.VolumeIsBusy for a client that
    cannot be told to be the host's, unless it is ``force``, with which that client stays.
    """
    # Asked of the class: some drivers answer for any attribute of an instance, with an error of their own.
    if not hasattr(driver.__class__, "_connect_to_rados"):
        return
    clients = _lasting_clients(driver, volume.name)
    if not clients:
        return
    hosts = None if connector is None else _address(str(connector.get("ip", "")))
    own = {client for client in clients if connector is None or (hosts is not None and _address(client) == hosts)}
    strangers = sorted(clients - own)
    if own:
        _block(driver, volume.name, sorted(own))
    if last and strangers and not force:
        raise exception.VolumeIsBusy(
            message=f"image {volume.name} is in use by {', '.join(strangers)}, which is not known to be the host whose "
            "connection ends: unmap it there, or put that client on Ceph's blocklist (ceph osd blocklist add)"
        )


def _lasting_clients(driver: Any, name: str) -> set[str]:
    """Those that stay: a snapshot that is taken meanwhile, say, opens the image for a moment."""
    clients = _clients(driver, name)
    for _ in range(_LOOKS):
        if not clients:
            break
        time.sleep(_LOOK_SECONDS)
        clients &= _clients(driver, name)
    return clients


def _clients(driver: Any, name: str) -> set[str]:
    """Addresses, as Ceph writes them, of the clients that have an image open for writing or hold its lock."""
    from cinder.volume.drivers import rbd

    try:
        # A client that only reads watches nothing, so this one is not among those that are found.
        with rbd.RBDVolumeProxy(driver, name, read_only=True) as image:
            watchers = {str(watcher["addr"]) for watcher in image.watchers_list()}
            lock = image.list_lockers() or {}
            return watchers | {str(address) for _client, _cookie, address in lock.get("lockers", ())}
    except driver.rbd.ImageNotFound:
        return set()


def _block(driver: Any, name: str, clients: list[str]) -> None:
    from cinder.volume.drivers import rbd

    with rbd.RADOSClient(driver) as client:
        for address in clients:
            command = {"prefix": "osd blocklist", "blocklistop": "add", "addr": address, "expire": _EXPIRY_SECONDS}
            before_call(driver)
            status, _output, error = client.cluster.mon_command(json.dumps(command), b"")
            if status:
                raise exception.VolumeBackendAPIException(
                    data=f"client {address} still uses image {name}, and Ceph does not put it on its blocklist: "
                    f"{error}; the user of the backend needs the capability mon 'profile rbd'"
                )
            LOG.warning("image %s: client %s stayed after its connection, and is on the blocklist", name, address)
        client.cluster.wait_for_latest_osdmap()


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address in an address of Ceph's, such as v1:192.0.2.1:0/123 or [2001:db8::1]:0/123, or alone."""
    if "/" in text:
        text = text.partition("/")[0].rpartition(":")[0]
        text = text.removeprefix("v1:").removeprefix("v2:").removeprefix("any:")
    try:
        return ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
