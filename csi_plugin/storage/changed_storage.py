"""A backend that is configured anew has to lead to the volumes that are recorded on it.

With another directory, pool or array by mistake, a driver finds nothing to delete and says that it is deleted. An edit
is compared with the driver that serves; one that was made while nothing ran, with what the records say.
"""

import hashlib
import json
import logging
from collections.abc import Collection
from itertools import islice
from typing import TYPE_CHECKING

from oslo_config import cfg

from csi_plugin.error_text import error_text
from csi_plugin.persistence.records import KeyValueRecord, VolumeRecord
from csi_plugin.storage import codec
from csi_plugin.storage.backend_configuration import BackendConfiguration
from csi_plugin.storage.cinder import driver_calls, options
from csi_plugin.storage.cinder.storage_away import StorageAway
from csi_plugin.storage.library_state import STATE

if TYPE_CHECKING:
    from csi_plugin.storage.backend import Backend

LOG = logging.getLogger(__name__)

PREFIX = "cinderbox/configuration/"
_LISTS_NAMES = "lists-names"
"""Follows the fingerprint once a list of the storage had volumes by the names that Cinder gives."""
_NOT_MADE = ("creating", "error", "error_managing", "managing")
_DELETION_BEGUN = ("deleting", "error_deleting")
_WITHOUT_STORAGE = (*_NOT_MADE, *_DELETION_BEGUN)
_NAMED = 3
_ACCEPT = "set accept_missing_volumes (of a CinderBackend: the annotation cinderbox.io/accept-missing-volumes=true)"


def check_has_volumes(new: "Backend", present: "Backend | None", configuration: BackendConfiguration) -> None:
    """Raise ValueError when a backend does not lead to the volumes recorded on it, and its options are new.

    ``present``: the one whose place it is to take; None at a start. Those volumes count that the present driver has
    listed lately; where nothing was listed, whether there is any at all. The pools that the volumes are in count too.
    The present driver is not asked: it may hang, which is why it is configured anew.
    """
    if present is None and not _leads_elsewhere(_remembered(new.id), configuration):
        return
    recorded = [
        record for record in STATE.store.find(VolumeRecord, backend=new.id) if record.status not in _WITHOUT_STORAGE
    ]
    if not recorded:
        return
    missing = _without_pool(recorded, new, present) or _not_listed(recorded, new, present)
    if missing:
        examples = ", ".join(record.id for record in islice(missing, _NAMED))
        meanwhile = (
            "no volume of it is served until they are put back"
            if present is None
            else ("the former configuration serves on")
        )
        raise ValueError(
            f"{len(missing)} of {len(recorded)} volumes that are recorded on backend {new.id} are not where its new "
            f"options lead ({examples}{'...' if len(missing) > _NAMED else ''}): {meanwhile}. "
            f"Where the volumes are to be given up, {_ACCEPT}"
        )


def remember(backend_id: str, configuration: BackendConfiguration) -> None:
    """After a start: what the next one is compared with."""
    wanted, key = _fingerprint(configuration), f"{PREFIX}{backend_id}"
    record = STATE.store.get(KeyValueRecord, key)
    if record is None:
        STATE.store.create(KeyValueRecord(id=key, value=wanted))
    elif _leads_elsewhere(record.value, configuration):
        record.value = wanted
        STATE.store.update(record)


def check_is_there(backend: "Backend", record: VolumeRecord) -> None:
    """Before a deletion: raise StorageAway for a volume that the storage had, and has no more, as all others of it.

    Many drivers say that they have deleted what they do not find. What they list tells of a storage that was emptied,
    or that another one answers for. An only volume whose deletion had begun may have been deleted by that.
    """
    if backend.accepts_missing_volumes:
        return
    backend.inventory.read_first()
    if not backend.inventory.is_gone(record.name_id or record.id):
        return
    others = [
        other.name_id or other.id
        for other in STATE.store.find(VolumeRecord, backend=backend.id)
        if other.id != record.id and other.status not in _NOT_MADE
    ]
    if backend.inventory.has_lost_all(others) if others else record.status not in _DELETION_BEGUN:
        backend.inventory.refresh(max_age=0)
        raise StorageAway(
            f"the storage of backend {backend.id} has neither volume {record.id} nor any other that it had before, so "
            "that nothing counts as deleted. Look whether it is the right storage; if it is, and its volumes are lost, "
            f"{_ACCEPT}"
        )


def names_to_expect(backend_id: str) -> list[str]:
    """Ids of the volumes that a list of the backend's storage has to have; none while no list was seen to have any."""
    if not (_remembered(backend_id) or "").endswith(_LISTS_NAMES):
        return []
    return [
        record.name_id or record.id
        for record in STATE.store.find(VolumeRecord, backend=backend_id)
        if record.status not in _WITHOUT_STORAGE
    ]


def remember_names(backend: "Backend", name_ids: Collection[str]) -> None:
    """Once a list has one of these, the ids of its recorded volumes: what later processes may expect of theirs."""
    record = STATE.store.get(KeyValueRecord, f"{PREFIX}{backend.id}")
    value = (record.value or "") if record is not None else ""
    if record is not None and not value.endswith(_LISTS_NAMES) and backend.inventory.has_any(name_ids):
        record.value = f"{value} {_LISTS_NAMES}"
        STATE.store.update(record)


def _remembered(backend_id: str) -> str | None:
    record = STATE.store.get(KeyValueRecord, f"{PREFIX}{backend_id}")
    return None if record is None else record.value


def _leads_elsewhere(remembered: str | None, configuration: BackendConfiguration) -> bool:
    """Whether a configuration differs, in what may matter, from the one that is remembered."""
    return remembered is not None and remembered.partition(" ")[0] != _fingerprint(configuration)


def _fingerprint(configuration: BackendConfiguration) -> str:
    """Of what may lead elsewhere: no passwords, which lead nowhere and whose hash would help to guess them."""
    secret = options.secret_among(configuration.options, volume_driver=configuration.driver) | configuration.secrets
    shown = {name: value for name, value in configuration.options.items() if name not in secret}
    text = json.dumps([configuration.driver, shown], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_pool(recorded: list[VolumeRecord], new: "Backend", present: "Backend | None") -> list[VolumeRecord]:
    """Volumes in pools that the backend had and has no more."""
    had = {record.pool for record in recorded} - {new.id} if present is None else set(present.pool_names)
    lost = had - set(new.pool_names)
    # A backend that is its one pool is named like it; a pool of another name tells nothing where nothing had one.
    return [record for record in recorded if record.pool and record.pool in lost] if new.pool_names else []


def _not_listed(recorded: list[VolumeRecord], new: "Backend", present: "Backend | None") -> list[VolumeRecord]:
    there = _listed(new, ())
    if there is None:
        return []
    if not any(_name(record) in there for record in recorded):
        # Some drivers have names of their own, and tell which of them are known; others leave those out.
        there |= _listed(new, recorded) or frozenset()
    missing = [record for record in recorded if record.id not in there and _name(record) not in there]
    before = (present.inventory.listed() if present is not None else None) or frozenset()
    if len(missing) == len(recorded) and _may_have_listed(before):
        return missing
    return [record for record in missing if _name(record) in before]


def _may_have_listed(before: frozenset[str]) -> bool:
    """Whether a list, which may be older than the volumes, has nothing or names as Cinder gives them: a driver that
    lists under names of its own misses all the others."""
    head, _, tail = cfg.CONF.volume_name_template.partition("%s")
    return not before or any(name.startswith(head) and name.endswith(tail) for name in before)


def _listed(backend: "Backend", recorded: Collection[VolumeRecord]) -> frozenset[str] | None:
    """Names of what the storage has, and ids of what the driver knows again; None where the driver cannot tell."""
    try:
        with backend.slot():
            known = [codec.volume_to_ovo(record) for record in recorded]
            entries = driver_calls.list_manageable(backend.calls, "volumes", known=known)
    except Exception as error:  # noqa: BLE001
        # Drivers raise anything, and many cannot list.
        LOG.info("backend %s cannot list its volumes: %s", backend.id, error_text(error))
        return None
    names = {str((entry.get("reference") or {}).get("source-name")) for entry in entries}
    return frozenset(names | {str(entry["cinder_id"]) for entry in entries if entry.get("cinder_id")})


def _name(record: VolumeRecord) -> str:
    name: str = cfg.CONF.volume_name_template % (record.name_id or record.id)
    return name
