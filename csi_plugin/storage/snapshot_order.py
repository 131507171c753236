"""Which of a volume's snapshots was taken last. Where that cannot be told, nothing may be reverted to any of them."""

from datetime import datetime, timedelta

from csi_plugin.persistence.records import SnapshotRecord
from csi_plugin.storage.cinder import exception
from csi_plugin.storage.library_state import STATE

_SECOND = timedelta(seconds=1)


def check_is_latest(snapshot_id: str, records: list[SnapshotRecord]) -> None:
    """Raises InvalidSnapshot unless a snapshot was taken surely after all others of its volume."""
    times = {record.id: record.created_at for record in records}
    others = {other: taken for other, taken in times.items() if other != snapshot_id}
    own = times.get(snapshot_id)
    later = {other: taken for other, taken in others.items() if taken and own and _is_before(own, taken)}
    if later:
        latest = max(later, key=lambda other: later[other])
        raise exception.InvalidSnapshot(reason=f"only the latest snapshot, {latest}, can be reverted to")
    unclear = sorted(other for other, taken in others.items() if not (taken and own and _is_before(taken, own)))
    if unclear:
        raise exception.InvalidSnapshot(
            reason=f"whether snapshot {snapshot_id} or {', '.join(unclear)} is the latest cannot be told from their "
            "times, and only the latest can be reverted to: delete the others first if they are not needed"
        )


def time_after_others(volume_id: str, now: datetime) -> datetime:
    """``now``, or a moment after the times of all snapshots that the volume has, where the clock was put back since."""
    taken = [record.created_at for record in STATE.store.find(SnapshotRecord, volume_id=volume_id) if record.created_at]
    latest = max(taken, default=now)
    return now if now >= latest else latest.replace(microsecond=0) + _SECOND


def _is_before(one: datetime, other: datetime) -> bool:
    """Whether one moment is surely before another: a whole second may be one that an earlier version cut."""
    return (one if one.microsecond else one + _SECOND) <= other and one != other
