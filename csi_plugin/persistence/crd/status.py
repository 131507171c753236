"""The status of each kind of resource, for humans, computed from records alone."""

from datetime import datetime

from csi_plugin.persistence.crd import node_sightings
from csi_plugin.persistence.crd.events import EventType
from csi_plugin.persistence.crd.resource import RecordResource, claim
from csi_plugin.persistence.crd.volume_use import with_use
from csi_plugin.persistence.encoding import utc_now
from csi_plugin.persistence.initiators import Find, NodesNamed, conflict
from csi_plugin.persistence.records import (
    JSON,
    ConnectionRecord,
    GroupRecord,
    GroupSnapshotRecord,
    Intent,
    NodeRecord,
    Phase,
    SnapshotRecord,
    VolumeRecord,
)

READY = "Ready"
DELETION_HELD = "DeletionHeld"
HEALTHY = "Healthy"

_PROVISIONER = "csi.storage.k8s.io/"


def status(resource: RecordResource, find: Find, nodes_named: NodesNamed) -> JSON:
    """The whole status of a resource, but for conditions that others keep."""
    record = resource.record
    values: JSON = {}
    match record:
        case VolumeRecord():
            values = _volume(with_use(record, find), find)
        case SnapshotRecord():
            values = _snapshot(record, find)
        case ConnectionRecord():
            values = _connection(record)
        case GroupRecord():
            values = {"state": record.status, "volumes": len(find(VolumeRecord, group_id=record.id))}
        case GroupSnapshotRecord():
            values = {
                "state": _state(record.status, record.intent),
                "snapshots": len(find(SnapshotRecord, group_snapshot_id=record.id)),
            }
        case NodeRecord():
            values = _node(record, find) | node_sightings.status_of(resource)
            values["conditions"] = conditions(resource, _registered(conflict(record, find, nodes_named)))
    if "state" in values:
        values["conditions"] = conditions(resource, _ready(values["state"], getattr(record, "intent", None)))
    return {name: value for name, value in values.items() if value not in (None, "")}


def conditions(resource: RecordResource, *wanted: JSON) -> list[JSON]:
    """The resource's conditions with ``wanted`` put in."""
    return merged_conditions(resource.status.get("conditions", []), *wanted)


def merged_conditions(present: list[JSON], *wanted: JSON) -> list[JSON]:
    """Conditions with ``wanted`` put in; a transition's time is kept while the condition stays."""
    by_type = {found["type"]: found for found in present}
    for condition in wanted:
        before = by_type.get(condition["type"], {})
        since = before.get("lastTransitionTime") if before.get("status") == condition["status"] else None
        by_type[condition["type"]] = condition | {"lastTransitionTime": since or _time(utc_now())}
    return [by_type[name] for name in sorted(by_type)]


def deletion_held(reason: str) -> JSON:
    """The condition of a resource that a person deleted and that has to stay."""
    return {"type": DELETION_HELD, "status": "True", "reason": "InUse", "message": reason}


def not_ready(reason: str, message: str) -> JSON:
    """The condition of a resource that cannot be counted on."""
    return {"type": READY, "status": "False", "reason": reason, "message": message}


def with_persistent_volume(resource: RecordResource, wanted: JSON, name: str | None) -> JSON:
    """A volume's status with the PersistentVolume that refers to it; empty for none, None where that is not known."""
    if name is None:
        return wanted
    others = {key: value for key, value in wanted.items() if key != "persistentVolume"}
    if name:
        return others | {"persistentVolume": name}
    ready = next(found for found in wanted["conditions"] if found["type"] == READY)
    if ready["status"] != "True":
        return others
    told = ready | {"message": "no PersistentVolume refers to it: `cinderbox volumes orphans` lists it"}
    return others | {"conditions": merged_conditions(wanted["conditions"], told)}


def with_health(present: list[JSON], problems: list[tuple[str, str]]) -> list[JSON]:
    """A volume's conditions with its health put in. A volume that never had a problem has no such condition."""
    if not problems and not any(condition["type"] == HEALTHY for condition in present):
        return present
    reason, message = (problems[0][0], "; ".join(text for _, text in problems)) if problems else (HEALTHY, "")
    status = "False" if problems else "True"
    return merged_conditions(present, {"type": HEALTHY, "status": status, "reason": reason, "message": message})


def due_events(resource: RecordResource, wanted: JSON) -> list[tuple[EventType, str, str]]:
    """Type, reason and message of the Events that are due when a status is written: what a person has to decide."""
    present = resource.status.get("conditions", [])
    told = {(known["type"], known["message"]) for known in present}
    due: list[tuple[EventType, str, str]] = []
    for condition in wanted.get("conditions", []):
        name, message = condition["type"], condition["message"]
        if condition["status"] == "True" and name in (READY, HEALTHY):
            if any((known["type"], known["status"]) == (name, "False") and _was_told(known) for known in present):
                due.append(("Normal", condition["reason"], message or "it is in order again"))
            continue
        if not message or (name, message) in told or condition["reason"] in _PASSING:
            continue
        reason = condition["reason"] if name in (READY, HEALTHY) else name
        # A deletion that waits goes on by itself.
        due.append(("Normal" if reason == "Deferred" else "Warning", reason, message))
    return due


def _was_told(condition: JSON) -> bool:
    """Whether an Event told of a condition."""
    return bool(condition["message"]) and condition["reason"] not in _PASSING


def _volume(record: VolumeRecord, find: Find) -> JSON:
    nodes = sorted(
        {found.node_id or found.attached_host or "?" for found in find(ConnectionRecord, volume_id=record.id)}
    )
    namespace, name = claim(record)
    return {
        "state": _state(record.status, record.intent),
        "size": f"{record.size}Gi",
        "backend": record.backend,
        "pool": record.pool,
        "nodes": nodes,
        "attachedTo": ",".join(nodes),
        "claim": f"{namespace}/{name}" if name else "",
        "persistentVolume": record.metadata.get(f"{_PROVISIONER}pv/name", ""),
        "snapshots": len(find(SnapshotRecord, volume_id=record.id)),
        "type": ",".join(f"{key}={value}" for key, value in sorted((record.extra_specs | record.qos_specs).items())),
        "source": _source(record),
    }


def _snapshot(record: SnapshotRecord, find: Find) -> JSON:
    namespace, name = claim(record)
    return {
        "state": _state(record.status, record.intent),
        "size": f"{record.volume_size}Gi",
        "volumeSnapshot": f"{namespace}/{name}" if name else "",
        "clones": len(find(VolumeRecord, snapshot_id=record.id)),
    }


def _connection(record: ConnectionRecord) -> JSON:
    state = "detaching" if record.attach_status == "error_detaching" else record.attach_status
    return {"state": state, "node": record.node_id or record.attached_host or ""}


def _node(record: NodeRecord, find: Find) -> JSON:
    topology = ",".join(f"{key}={value}" for key, value in sorted(record.topology.items()))
    published = sorted({found.volume_id for found in find(ConnectionRecord, node_id=record.id)})
    return {"volumes": len(published), "published": published, "topology": topology}


def _state(cinder_status: str, intent: Intent | None) -> str:
    """Cinder's word, unless the CO sees the object differently."""
    if intent is not None and intent.phase in (Phase.DEFERRED, Phase.ORPHAN, Phase.DELETING):
        return str(intent.phase)
    return cinder_status


def _source(record: VolumeRecord) -> str:
    if record.snapshot_id:
        return f"snapshot/{record.snapshot_id}"
    return f"volume/{record.source_volid}" if record.source_volid else ""


_GOOD = ("available", "in-use", "attached")

_MEANINGS = {
    "creating": "it is being created; what a crash interrupts is taken up when its backend is ready",
    "deleting": "it is being deleted; what a crash interrupts is finished when its backend is ready",
    "deferred": "it is deleted, and goes from the storage when nothing needs it any more",
    "leftover": "an interrupted attempt may have left something on the storage; it is looked for, and removed where "
    "that is safe",
    "managing": "it is being adopted; where that was interrupted, run the same command again",
    "reverting": "its data is being set back to a snapshot; after a crash, nobody knows how far that came: revert it "
    "again",
    "extending": "it is being extended; what a crash interrupts is settled when the expansion is asked for again",
    "attaching": "it is being exported to the node; what a crash interrupts is finished when its backend is ready",
    "detaching": "its export is being ended; what a crash interrupts is finished when its backend is ready",
    "error": "the driver failed to create it; the controller's log has the error, and the next attempt is another "
    "object",
    "error_deleting": "the driver failed to delete it; it is asked again with the next deletion. The controller's log "
    "has the error",
    "error_extending": "the driver failed to extend it, and it has its former size; it is asked again with the next "
    "expansion, or the claim can be given its former size. The controller's log has the error",
    "error_managing": "the driver failed to adopt it; the controller's log has the error",
}
"""What a state means, and what comes next, where its record says no more."""

_PASSING = ("Creating", "Deleting", "Extending", "Attaching", "Detaching")
"""Reasons of conditions that are not worth an Event: they are there for the length of a call."""


def _ready(state: str, intent: Intent | None) -> JSON:
    reason = "".join(word.capitalize() for word in state.replace("_", "-").split("-")) or "Unknown"
    message = (intent.condition if intent is not None else "") or _MEANINGS.get(state, "")
    if not message and state not in _GOOD:
        message = f"its status is {state or 'not known'}, as the driver left it; the controller's log may say why"
    return {"type": READY, "status": "True" if state in _GOOD else "False", "reason": reason, "message": message}


def _registered(obstacle: str) -> JSON:
    reason = "DuplicateInitiator" if obstacle else "Registered"
    return {"type": READY, "status": "False" if obstacle else "True", "reason": reason, "message": obstacle}


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
