"""What a volume must be before something is done with it. All raise InvalidVolume, or InvalidInput for an argument."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from csi_plugin.persistence.records import ConnectionRecord, VolumeRecord
from csi_plugin.storage.cinder import exception
from csi_plugin.storage.deferred_deletion import AWAITING_DEPENDANTS
from csi_plugin.storage.library_state import STATE

if TYPE_CHECKING:
    from csi_plugin.storage.volume import Volume

_WITHOUT_DATA = (
    "creating",
    "deleting",
    AWAITING_DEPENDANTS,
    "error",
    "error_deleting",
    "managing",
    "reverting",
)


def check_has_data(volume: "Volume", action: str) -> None:
    """The volume is in no state without dependable data; ``action`` is for the message."""
    if volume._ovo.status in _WITHOUT_DATA:
        raise exception.InvalidVolume(reason=f"volume {volume._ovo.id} is {volume._ovo.status} and cannot be {action}")


def check_stored_data(volume: "Volume", action: str) -> None:
    """check_has_data() of what the store says now, which another object of the volume may have written."""
    record = STATE.store.get(VolumeRecord, volume._ovo.id)
    if record is None or record.status in _WITHOUT_DATA:
        status = record.status if record else "gone"
        raise exception.InvalidVolume(reason=f"volume {volume._ovo.id} is {status} and cannot be {action}")


def check_can_be_copied(volume: "Volume", action: str) -> None:
    """The volume is not connected, or its driver copies also volumes that are."""
    if volume._ovo.status == "in-use" and not volume.backend.supports("copy_in_use"):
        raise exception.InvalidVolume(
            reason=f"volume {volume._ovo.id} is in use and cannot be {action}: backend {volume.backend.id} copies only "
            "volumes that are not"
        )


def check_can_be_connected(
    volume: "Volume", connector: Mapping[str, Any], *, connection_id: str | None, node_id: str | None
) -> None:
    """No connections other than ``connection_id`` forbid it.

    A program may connect any volume to a second host, as with cinderlib: virtual machines move so. One host has it
    once, since a driver that ends one of its connections ends both. A CSI node (``node_id``) has a volume that is on no
    other host. What was made with ``multiattach`` is free of that.
    """
    found = STATE.store.find(ConnectionRecord, volume_id=volume._ovo.id)
    others = [other for other in found if other.id != connection_id]
    if not any(node_id or _is_same_host(other.connector or {}, connector) for other in others):
        return
    if not volume._ovo.multiattach:
        raise exception.InvalidVolume(reason=f"volume {volume._ovo.id} is connected and not multiattach")
    if not volume.backend.supports("multiattach"):
        raise exception.InvalidVolume(
            reason=f"volume {volume._ovo.id} is connected, and backend {volume.backend.id} has no multiattach"
        )


def _is_same_host(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    for name in ("host", "initiator"):
        if one.get(name) or other.get(name):
            return one.get(name) == other.get(name)
    return one == other


_WHOLE_NUMBER = re.compile(r"\s*([0-9]{1,18})(\.0*)?\s*")


def whole_size(size: Any) -> int:
    """A size in GiB: a whole number, be it written as a float or as text."""
    number = size
    if isinstance(size, str) and (match := _WHOLE_NUMBER.fullmatch(size)):
        number = int(match[1])
    elif isinstance(size, float) and size.is_integer():
        number = int(size)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise exception.InvalidInput(reason=f"size must be a whole number of GiB, 1 at least, not {size!r}")
    return number
