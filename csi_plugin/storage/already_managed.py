"""What the storage has under the name of a recorded volume or snapshot is not to be adopted: it is somebody's.

Cinder's API looks before it asks a driver, and several drivers rename whatever is there: the record would lead to
nothing, and its data would be under another's. Two backends may share one storage, so the records of all count.
"""

from collections.abc import Mapping
from typing import Any

from oslo_config import cfg

from csi_plugin.persistence.records import Phase, SnapshotRecord, VolumeRecord
from csi_plugin.storage.cinder import exception
from csi_plugin.storage.library_state import STATE

_GIVEN_UP = ("managing", "error_managing", "unmanaging")
"""Of adoptions and the reverse that were interrupted: a person may begin anew."""


def check_volume(reference: Mapping[str, Any]) -> None:
    """Raise ManageExistingAlreadyManaged where a reference names the volume of a record."""
    if record := _recorded_volumes().get(str(reference.get("source-name"))):
        raise exception.ManageExistingAlreadyManaged(volume_ref=f"{record.id} of backend {record.backend}")


def check_snapshot(reference: Mapping[str, Any]) -> None:
    """Raise ManageExistingInvalidReference where a reference names the snapshot of a record."""
    name = str(reference.get("source-name"))
    for record in STATE.store.find(SnapshotRecord):
        if cfg.CONF.snapshot_name_template % record.id == name and _is_used(record):
            reason = f"it is snapshot {record.id} of backend {record.backend}, which is managed already"
            raise exception.ManageExistingInvalidReference(existing_ref=dict(reference), reason=reason)


def mark(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A driver's list of volumes, in which those of records cannot be adopted."""
    recorded = _recorded_volumes()
    return [_marked(entry, recorded.get(str((entry.get("reference") or {}).get("source-name")))) for entry in found]


def _marked(entry: dict[str, Any], record: VolumeRecord | None) -> dict[str, Any]:
    if record is None or not entry.get("safe_to_manage", True):
        return entry
    reason = f"already managed (backend {record.backend})"
    return {**entry, "safe_to_manage": False, "reason_not_safe": reason, "cinder_id": record.id}


def _recorded_volumes() -> dict[str, VolumeRecord]:
    """By their names in the storage."""
    return {
        cfg.CONF.volume_name_template % (record.name_id or record.id): record
        for record in STATE.store.find(VolumeRecord)
        if _is_used(record)
    }


def _is_used(record: VolumeRecord | SnapshotRecord) -> bool:
    is_orphan = record.intent is not None and record.intent.phase is Phase.ORPHAN
    return not is_orphan and record.status not in _GIVEN_UP
