"""Which of a volume's snapshots was taken last. Where that cannot be told, nothing may be reverted to any of them."""

from datetime import datetime, timedelta

from csi_plugin.persistence.records import SnapshotRecord
from csi_plugin.storage.cinder import exception
from csi_plugin.storage.library_state import STATE

_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)


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
    """``now``, or a moment that is surely after the times of all snapshots of the volume, where the clock was put back
    since."""
    taken = [record.created_at for record in STATE.store.find(SnapshotRecord, volume_id=volume_id) if record.created_at]
    if now >= max(taken, default=now):
        return now
    after = max(_surely_over(time) for time in taken) + _MICROSECOND
    return after if after.microsecond else after + _MICROSECOND


def _is_before(one: datetime, other: datetime) -> bool:
    """Whether one moment is surely before another."""
    return _surely_over(one) <= other and one != other


def _surely_over(moment: datetime) -> datetime:
    """A whole second may be one that an earlier version cut."""
    return moment if moment.microsecond else moment + _SECOND
