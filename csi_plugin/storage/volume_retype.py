"""Other specs for a volume, in place: Cinder's retype."""

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from csi_plugin.instrumentation.failpoints import failpoint
from csi_plugin.persistence.records import UNDER_WAY
from csi_plugin.storage import codec, database
from csi_plugin.storage.cinder import exception
from csi_plugin.storage.cinder.driver_answers import take_update
from csi_plugin.storage.cinder.runtime import CONTEXT

if TYPE_CHECKING:
    from csi_plugin.storage.volume import Volume


def retype(volume: "Volume", *, extra_specs: dict[str, str] | None, qos_specs: dict[str, str] | None) -> None:
    """``Volume.retype``; the caller holds a slot of the backend."""
    record = volume.record
    wanted_extra = record.extra_specs if extra_specs is None else dict(extra_specs)
    wanted_qos = record.qos_specs if qos_specs is None else dict(qos_specs)
    diff = {
        "encryption": {},
        "extra_specs": _difference(record.extra_specs, wanted_extra),
        "qos_specs": _difference(record.qos_specs, wanted_qos),
    }
    if not _differs(diff):
        return
    new_type = codec.volume_type(str(uuid4()), wanted_extra, wanted_qos)
    host = {"host": volume._ovo.host, "cluster_name": None, "capabilities": volume.backend.stats()}
    _note(volume, {UNDER_WAY: "retype"})
    failpoint("retype.recorded")
    try:
        with database.planned_type(new_type.id, extra_specs=wanted_extra, qos_specs=wanted_qos):
            result = volume._call_driver(lambda driver: driver.retype(CONTEXT, volume._ovo, new_type, diff, host))
        done, update = result if isinstance(result, tuple) else (result, None)
        if not done:
            raise exception.InvalidVolume(
                reason=f"the driver cannot change volume {volume._ovo.id} to these specs without moving its data"
            )
    except Exception:
        # Drivers raise anything; the call has ended.
        _note(volume, {})
        raise
    failpoint("retype.driver_done")
    take_update(volume._ovo, update)
    volume._ovo.admin_metadata.pop(UNDER_WAY, None)
    volume._ovo.volume_type_id = volume._ovo.id
    volume._ovo.volume_type = codec.volume_type(volume._ovo.id, wanted_extra, wanted_qos)
    volume.save()


def _note(volume: "Volume", entries: dict[str, str]) -> None:
    """Store what is under way, so that who comes after a crash knows of it."""
    present = {name: value for name, value in volume.record.admin_metadata.items() if name != UNDER_WAY}
    volume._ovo.admin_metadata = present | entries
    volume.save()


def _difference(old: dict[str, str], new: dict[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """Cinder's form of a change: every key with its old and new value."""
    return {key: (old.get(key), new.get(key)) for key in {*old, *new}}


def _differs(diff: dict[str, Any]) -> bool:
    return any(old != new for part in diff.values() for old, new in part.values())
