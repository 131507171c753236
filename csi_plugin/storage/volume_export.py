"""Exporting a volume to a host and ending that: the driver's calls, and what is recorded around them."""

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from csi_plugin.error_text import error_text
from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.persistence.base import RecordNotFound, changed_fields
from csi_plugin.persistence.records import RENEWED, ConnectionRecord
from csi_plugin.storage import codec
from csi_plugin.storage.cinder import driver_calls, exception
from csi_plugin.storage.exception import NotLocal
from csi_plugin.storage.library_state import STATE
from csi_plugin.storage.volume_checks import check_can_be_connected, check_stored_data
from csi_plugin.storage.volume_deletion import dependant_lock

if TYPE_CHECKING:
    from csi_plugin.storage.connection import Connection
    from csi_plugin.storage.volume import Volume

LOG = logging.getLogger(__name__)


def export(
    connection: "Connection",
    volume: "Volume",
    connector: dict[str, Any],
    *,
    attach_mode: str | None,
    stays_after_failure: bool = False,
) -> None:
    """Export a volume to the host of ``connector``. The new connection is stored first, so that the export is not
    forgotten in a crash; an interrupted attempt's record of the same id is taken over. ``attach_mode``: what was asked
    for, None leaves it to the driver. ``stays_after_failure``: the record, which others go on with."""
    with dependant_lock(volume._ovo.id):
        _record_intent(connection, connector)
        failpoint("publish.recorded")
        try:
            # Looked up after this connection was stored, so that either this or the other side gives way.
            check_stored_data(volume, "connected")
            check_can_be_connected(volume, connector, connection_id=connection.id, node_id=connection.node_id)
        except exception.InvalidVolume:
            if not stays_after_failure:
                STATE.store.delete(connection.record)
            raise
    try:
        connection_info = volume._call_driver(
            lambda driver: driver_calls.connect(
                driver,
                volume._ovo,
                connector,
                save=lambda: _save_use(volume, "in-use", "attached"),
                attach_mode=attach_mode,
                is_only=lambda: _is_last(connection),
            )
        )
    except Exception:
        # Drivers raise anything, and driver_calls has removed the export.
        if stays_after_failure:
            raise
        STATE.store.delete(connection.record)
        # In use without a connection: an earlier attempt came as far as that.
        is_free = not STATE.store.find(ConnectionRecord, volume_id=volume._ovo.id, limit=1)
        _save_end(volume, last=is_free and volume._ovo.status == "in-use")
        raise
    failpoint("publish.driver_done")
    connection.conn_info = connection_info
    connection._ovo.attach_status = "attached"
    connection._ovo.attach_time = datetime.now(UTC)
    # What initialize_connection changed, and the use if the export had nothing to save. The connection is complete
    # last: until then, a repeat or a restart calls the driver again.
    _save_use(volume, "in-use", "attached")
    failpoint("publish.volume_saved")
    connection.save()
    failpoint("publish.saved")


def move(connection: "Connection", volume: "Volume", connector: dict[str, Any]) -> None:
    """Export a volume to what a host is now instead of what it was, as ``connector`` says with RENEWED: the record
    tells of the former export until that has ended, and is there all the time."""
    present = connection._ovo.connector or {}
    if connection._ovo.attach_status == "attached" or RENEWED not in present:
        connection._ovo.attach_status = "attaching"
        connection._ovo.connector = {name: value for name, value in present.items() if name != RENEWED}
        connection.save()
        failpoint("move.recorded")
        last = _is_last(connection)
        connection._call_driver(
            lambda driver: driver_calls.disconnect(
                driver, volume._ovo, connection.connector_info, last=last, force=False, connection_id=connection._ovo.id
            )
        )
        failpoint("move.ended")
    connection._ovo.connector = dict(connector)
    export(connection, volume, connector, attach_mode=connection._ovo.attach_mode, stays_after_failure=True)


def end_export(connection: "Connection", volume: "Volume", *, force: bool) -> None:
    """Take the export back and forget the connection. One that has ended already is left as it is: without its
    connector, drivers would end those of all hosts."""
    if _has_ended(connection):
        return
    connection._ovo.attach_status = "error_detaching"  # a disconnect was begun; no better word is allowed
    try:
        connection.save()
    except RecordNotFound:
        _note_end(connection)
        return
    failpoint("unpublish.recorded")
    last = _is_last(connection)
    connection._call_driver(
        lambda driver: driver_calls.disconnect(
            driver,
            volume._ovo,
            connection.connector_info,
            last=last,
            force=force,
            connection_id=connection._ovo.id,
        )
    )
    failpoint("unpublish.driver_done")
    _save_end(volume, last=last)
    STATE.store.delete(connection.record)
    _note_end(connection)
    failpoint("unpublish.saved")


def end_attachment(volume: "Volume", *, force: bool, ignore_errors: bool) -> None:
    """``Volume.detach``."""
    connection = volume.local_attach
    if connection is None:
        raise NotLocal(volume._ovo.id)
    failure = None
    try:
        connection.detach(force=force, ignore_errors=ignore_errors)
    except Exception as error:
        # os-brick raises anything.
        if not force:
            raise
        failure = error
    try:
        volume.disconnect(connection, force=force)
    except Exception as error:
        # Drivers raise anything; the connection is still recorded, and can be disconnected again.
        if not (force and ignore_errors):
            raise error from failure
        LOG.warning("volume %s stays connected to this host: %s", volume._ovo.id, error_text(error))
        return
    volume.local_attach = None
    if failure is not None:
        raise failure


def _is_last(connection: "Connection") -> bool:
    """Whether its volume has no other connection."""
    found = STATE.store.find(ConnectionRecord, volume_id=connection._ovo.volume_id, limit=2)
    return all(other.id == connection._ovo.id for other in found)


def _has_ended(connection: "Connection") -> bool:
    is_ended = connection._ovo.attach_status == "detached" and not connection.connected
    return is_ended and STATE.store.get(ConnectionRecord, connection._ovo.id) is None


def _note_end(connection: "Connection") -> None:
    connection.conn_info = None
    connection._ovo.attach_status = "detached"


def _record_intent(connection: "Connection", connector: dict[str, Any]) -> None:
    existing = STATE.store.get(ConnectionRecord, connection._ovo.id)
    connection.revision = existing.revision if existing else 0
    connection.connector_info = dict(connector)
    connection.save()


def _save_end(volume: "Volume", *, last: bool) -> None:
    """The volume's part of the end of an export."""
    if last:
        _save_use(volume, "available", "detached")
    elif changed_fields(volume._ovo):
        volume.save()


def _save_use(volume: "Volume", status: str, attach_status: str) -> None:
    """Store whether the volume is in use, with what the driver changed in it while it connected or disconnected."""
    volume._ovo.status, volume._ovo.attach_status = status, attach_status
    changed = changed_fields(volume._ovo)
    if changed <= {"status", "attach_status"} and STATE.store.DERIVES_USE:
        volume._note_stored(volume.record)
        codec.reset_changes(volume._ovo)
    elif changed:
        volume.save()
