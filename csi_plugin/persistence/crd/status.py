"""The status of each kind of resource, for humans, computed from records alone."""

from datetime import datetime

from csi_plugin.persistence.crd.events import EventType
from csi_plugin.persistence.crd.resource import RecordResource, claim
from csi_plugin.persistence.crd.volume_use import with_use
from csi_plugin.persistence.encoding import utc_now
from csi_plugin.persistence.initiators import Find, conflict
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


def status(resource: RecordResource, find: Find) -> JSON:
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
            values = _node(record, find)
            values["conditions"] = conditions(resource, _registered(conflict(record, find)))
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


def with_health(present: list[JSON], problems: list[tuple[str, str]]) -> list[JSON]:
    """A volume's conditions with its health put in. A volume that never had a problem has no such condition."""
    if not problems and not any(condition["type"] == HEALTHY for condition in present):
        return present
    reason, message = (problems[0][0], "; ".join(text for _, text in problems)) if problems else (HEALTHY, "")
    status = "False" if problems else "True"
    return merged_conditions(present, {"type": HEALTHY, "status": status, "reason": reason, "message": message})


def due_events(resource: RecordResource, wanted: JSON) -> list[tuple[EventType, str, str]]:
    """Type, reason and message of the Events that are due when a status is written: what a person has to decide."""
    told = {(known["type"], known["message"]) for known in resource.status.get("conditions", [])}
    due: list[tuple[EventType, str, str]] = []
    for condition in wanted.get("conditions", []):
        name, message = condition["type"], condition["message"]
        if not message or (name, message) in told or (name, condition["status"]) == (READY, "True"):
            continue
        reason = condition["reason"] if name in (READY, HEALTHY) else name
        # A deletion that waits goes on by itself.
        due.append(("Normal" if reason == "Deferred" else "Warning", reason, message))
    return due


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
    return {"volumes": len(find(ConnectionRecord, node_id=record.id)), "topology": topology}


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


def _ready(state: str, intent: Intent | None) -> JSON:
    reason = "".join(word.capitalize() for word in state.replace("_", "-").split("-")) or "Unknown"
    message = intent.condition if intent is not None else ""
    return {"type": READY, "status": "True" if state in _GOOD else "False", "reason": reason, "message": message}


def _registered(obstacle: str) -> JSON:
    reason = "DuplicateInitiator" if obstacle else "Registered"
    return {"type": READY, "status": "False" if obstacle else "True", "reason": reason, "message": obstacle}


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
