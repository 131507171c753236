"""``cinderbox snapshots orphans``: what no object of Kubernetes refers to."""

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from csi_plugin.persistence.crd import CRDPersistence
from csi_plugin.persistence.records import GroupSnapshotRecord, Intent, Phase, SnapshotRecord, VolumeRecord
from csi_plugin.persistence.sealing import generate_key
from tests.support.kubernetes_api import KubernetesAPI
from tests.support.project import PROJECT
from tests.support.serving import Served

DRIVER = "csi.cinderbox.io"
API = {"snapshot": "snapshot.storage.k8s.io/v1", "group": "groupsnapshot.storage.k8s.io/v1"}


def record(name: str, *, phase: Phase = Phase.READY, group: str | None = None) -> SnapshotRecord:
    intent = None if group else Intent(name=name, phase=phase)
    volume, host = str(uuid.uuid4()), "loop"
    found = SnapshotRecord(id=str(uuid.uuid4()), volume_id=volume, status="available", intent=intent, display_name=name)
    found.group_snapshot_id, found.backend = group, host
    return found


def group_record(name: str) -> GroupSnapshotRecord:
    intent = Intent(name=name, phase=Phase.READY)
    return GroupSnapshotRecord(id=str(uuid.uuid4()), group_id=str(uuid.uuid4()), status="available", intent=intent)


class Contents:
    """Makes the objects that the snapshot controller makes."""

    def __init__(self, kubernetes: KubernetesAPI) -> None:
        self._kubernetes = kubernetes
        self._made: list[str] = []

    def snapshot(self, source: dict[str, Any], *, name: str = "", driver: str = DRIVER, handle: str = "") -> None:
        spec: dict[str, Any] = {"driver": driver, "deletionPolicy": "Retain", "source": source}
        self._make("VolumeSnapshotContent", "snapshot", name, spec, {"snapshotHandle": handle} if handle else {})

    def group(self, *, handle: str) -> None:
        spec = {"driver": DRIVER, "deletionPolicy": "Retain", "source": {"volumeHandles": ["x"]}}
        self._make("VolumeGroupSnapshotContent", "group", "", spec, {"volumeGroupSnapshotHandle": handle})

    def _make(self, kind: str, group: str, name: str, spec: dict[str, Any], status: dict[str, Any]) -> None:
        name = name or f"content-{uuid.uuid4()}"
        self._made.append(f"{kind.lower()}/{name}")
        reference = "volumeSnapshotRef" if group == "snapshot" else "volumeGroupSnapshotRef"
        spec = spec | {reference: {"name": "x", "namespace": "default"}}
        content = {"apiVersion": API[group], "kind": kind, "metadata": {"name": name}, "spec": spec}
        self._kubernetes.kubectl("create", "-f", "-", input_text=json.dumps(content))
        if status:
            patch = json.dumps({"status": status})
            arguments = ("--subresource=status", "--type=merge", "-p", patch)
            self._kubernetes.kubectl("patch", self._made[-1], *arguments)

    def remove(self) -> None:
        self._kubernetes.kubectl("delete", *self._made)


def test_snapshots_that_no_content_refers_to_are_listed(kubernetes: KubernetesAPI, tmp_path: Path) -> None:
    where = {"namespace": kubernetes.new_namespace(), "kubeconfig": str(kubernetes.kubeconfig)}
    keys = {"CINDERBOX_SEALING_KEYS": generate_key()}
    served = Served(tmp_path, persistence={"storage": "crd", **where}, environment=keys)
    for file in sorted((PROJECT / ".tools/kubernetes/crds").glob("*.storage.k8s.io_*.yaml")):
        kubernetes.kubectl("apply", "--server-side", "-f", str(file))
    kubernetes.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    known, imported, lost, theirs = (record(f"snapshot-{uuid.uuid4()}") for _ in range(4))
    making = record(f"snapshot-{uuid.uuid4()}")
    hidden = record(f"snapshot-{uuid.uuid4()}", phase=Phase.DEFERRED)
    group, lost_group = group_record("groupsnapshot-1"), group_record("groupsnapshot-2")
    member, lost_member = record("member", group=group.id), record("lost-member", group=lost_group.id)
    store = CRDPersistence(**where)
    for made in (known, imported, lost, theirs, making, hidden, group, lost_group, member, lost_member):
        store.create(made)
    store.close()
    contents = Contents(kubernetes)
    contents.snapshot({"volumeHandle": known.volume_id}, handle=known.id)
    contents.snapshot({"snapshotHandle": imported.id})
    contents.snapshot({"snapshotHandle": theirs.id}, driver="other.example")
    contents.snapshot({"volumeHandle": making.volume_id}, name=f"snapcontent-{making.csi_name[-36:]}")
    contents.group(handle=group.id)

    found = json.loads(served.command("snapshots", "orphans", "-o", "json"))

    assert {row["id"] for row in found} == {lost.id, theirs.id, lost_member.id}
    (row,) = [row for row in found if row["id"] == lost_member.id]
    assert (row["name"], row["group_snapshot"], row["volume"]) == ("lost-member", lost_group.id, lost_member.volume_id)
    assert lost.id in served.command("snapshots", "orphans")
    assert row["age"].endswith("s")
    contents.remove()


def test_volumes_that_no_persistent_volume_refers_to_are_listed(kubernetes: KubernetesAPI, tmp_path: Path) -> None:
    where = {"namespace": kubernetes.new_namespace(), "kubeconfig": str(kubernetes.kubeconfig)}
    served = Served(
        tmp_path, persistence={"storage": "crd", **where}, environment={"CINDERBOX_SEALING_KEYS": generate_key()}
    )
    intent = Intent(name="pvc-1", phase=Phase.READY)
    lost = VolumeRecord(id=str(uuid.uuid4()), host="host@loop", status="available", intent=intent)
    lost.created_at = datetime.now(UTC) - timedelta(days=3, hours=4)
    store = CRDPersistence(**where)
    store.create(lost)
    store.close()
    (row,) = json.loads(served.command("volumes", "orphans", "-o", "json"))
    assert (row["id"], row["phase"], row["age"]) == (lost.id, "ready", "3d4h")
    assert row["condition"] == "no PersistentVolume refers to it"


def test_other_metadata_has_no_kubernetes_to_compare_with(tmp_path: Path) -> None:
    Served(tmp_path).command("snapshots", "orphans", expect=2)
