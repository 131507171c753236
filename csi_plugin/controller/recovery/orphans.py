"""Tries that ended without success: they give their name free, and recovery looks after what they may have left."""

import logging
from datetime import UTC, datetime

from csi_plugin.controller import lookups
from csi_plugin.controller.context import Core
from csi_plugin.controller.lookups import Tried
from csi_plugin.persistence.base import RecordNotFound
from csi_plugin.persistence.records import Phase

LOG = logging.getLogger(__name__)

UNFINISHED_DELETED = "deleted by the CO before its creation was finished"


def set_aside_failed(core: Core, kind: type[Tried], record_id: str, error: BaseException) -> None:
    """After a driver's error in this process: the try has ended now, and nobody was given its id.

    Unless the storage says that the object exists: then an earlier try made it, of which old metadata, restored from a
    backup, know nothing, and it may have data.
    """
    record = core.store.get(kind, record_id)
    if record is not None and record.status == "error" and lookups.intent_of(record).phase is Phase.CREATING:
        _set_aside(core, record, ended_at=None if "exist" in str(error).lower() else datetime.now(UTC))


def set_aside_interrupted(core: Core, record: Tried, *, why: str = "") -> None:
    """For a try that a crash cut off. When it ended is not known, so its beginning counts: a record out of an old
    backup is old, however recently it was restored or written. One that this process has seen the end of is out of a
    backup for sure. ``why``: the CO itself wants it gone."""
    is_restored = record.id in core.handed_out and not why
    _set_aside(core, record, ended_at=None if is_restored else record.created_at, why=why)


def _set_aside(core: Core, record: Tried, *, ended_at: datetime | None, why: str = "") -> None:
    intent = lookups.intent_of(record)
    intent.phase = Phase.LEFTOVER
    intent.ended_at = ended_at
    intent.condition = why or "the try ended without success; what it may have left is being looked for"
    try:
        core.store.update(record)
    except RecordNotFound:
        return  # nothing to look after
    LOG.warning("%s %s (%s) is a leftover now", record.KIND, record.id, intent.name)
    core.pending.add(type(record), record.id)
