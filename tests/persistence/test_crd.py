"""What custom resources are to people and to clusters, on a real API server; test_records has the contract."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.persistence.base import PersistenceError, RevisionConflict
from csi_plugin.persistence.crd import CRDPersistence, list_watch
from csi_plugin.persistence.records import (
    ConnectionRecord,
    Intent,
    KeyValueRecord,
    NodeRecord,
    Phase,
    Record,
    SnapshotRecord,
    VolumeRecord,
)
from csi_plugin.persistence.sealing import Sealer, SealingStore
from csi_plugin.persistence.testing import new_id, samples
from tests.support.kubernetes_api import DEFINITIONS, FaultyProxy, KubernetesAPI
from tests.support.network import Cable
from tests.support.polling import wait_until
from tests.support.project import PROJECT

SHORT_NAMES = ("cvol", "csnap", "cconn", "ckv", "cgrp", "cgsnap", "cnode")
CLAIM = {
    "csi.storage.k8s.io/pvc/namespace": "shop",
    "csi.storage.k8s.io/pvc/name": "orders",
    "csi.storage.k8s.io/pv/name": "pvc-1",
}


EXPIRED = {"kind": "Status", "code": 410, "message": "too old resource version"}
ENDS_AT_ONCE = {
    "nothing": "\n",
    "expired": json.dumps({"type": "ERROR", "object": EXPIRED}) + "\n",
    "no Kubernetes": "<html>\n",
}


@pytest.fixture
def namespace(kubernetes: KubernetesAPI) -> str:
    return kubernetes.new_namespace()


@pytest.fixture
def open_store(kubernetes: KubernetesAPI, namespace: str) -> Iterator[Callable[..., CRDPersistence]]:
    """Opens the namespace, through a URL that leads to the API server if one is given."""
    opened = []

    def make(url: str = "") -> CRDPersistence:
        kubeconfig = kubernetes.write_kubeconfig(name=f"{namespace}-{len(opened)}", url=url)
        opened.append(CRDPersistence(namespace=namespace, kubeconfig=str(kubeconfig)))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[..., CRDPersistence]) -> CRDPersistence:
    return open_store()


@pytest.fixture
def cable(kubernetes: KubernetesAPI) -> Iterator[Cable]:
    made = Cable(kubernetes.port)
    yield made
    made.close()


def a_volume(**values: Any) -> VolumeRecord:
    fields: dict[str, Any] = {
        "id": new_id(),
        "host": "host@lvm#fast",
        "size": 7,
        "status": "available",
        "metadata": CLAIM,
        "provider_id": "lun-7",
        "extra_specs": {"compression": "<is> True"},
        "intent": Intent(name="pvc-1", phase=Phase.READY),
    }
    return VolumeRecord(**fields | values)


class TestForPeople:
    def test_definitions_are_those_of_the_records(self, tmp_path: Path) -> None:
        script = "import sys, pathlib, custom_resources as g; g.TARGET = pathlib.Path(sys.argv[1]); g.main()"
        subprocess.run([sys.executable, "-c", script, tmp_path], cwd=PROJECT / "scripts/generate", check=True)
        made, committed = (
            {path.name: path.read_text() for path in folder.iterdir()} for folder in (tmp_path, DEFINITIONS)
        )
        assert made == committed, "run `make crds`"

    def test_get_volumes(self, kubernetes: KubernetesAPI, namespace: str, store: CRDPersistence) -> None:
        volume = store.create(a_volume())
        store.create(SnapshotRecord(id=new_id(), volume_id=volume.id, status="available"))
        for node in ("worker-1", "worker-2"):
            store.create(ConnectionRecord(id=new_id(), volume_id=volume.id, node_id=node, attach_status="attached"))

        def row() -> list[str]:
            return kubernetes.kubectl("get", "cvol", "-n", namespace, "--no-headers", "-o", "wide").split()

        wait_until(lambda: "worker-1,worker-2" in row(), lambda: str(row()))
        name, state, size, backend, pool, nodes, claim, _age, kind, *others = row()
        assert (name, state, size, backend, pool) == (volume.id, "in-use", "7Gi", "lvm", "fast")
        assert (nodes, claim, [kind, *others]) == (
            "worker-1,worker-2",
            "shop/orders",
            ["compression=<is>", "True", "lun-7"],
        )
        header = kubernetes.kubectl("get", "cvol", "-n", namespace).splitlines()[0].split()
        assert header == ["NAME", "STATE", "SIZE", "BACKEND", "POOL", "NODES", "CLAIM", "AGE"]
        resource = kubernetes.get("cvol", volume.id, "-n", namespace)
        assert resource["metadata"]["labels"] == {
            "cinderbox.io/backend": "lvm",
            "cinderbox.io/claim": "orders",
            "cinderbox.io/claim-namespace": "shop",
        }
        assert resource["status"]["snapshots"] == 1
        kubernetes.kubectl("wait", "--for=condition=Ready", f"cvol/{volume.id}", "-n", namespace, "--timeout=30s")

    def test_every_kind_has_a_short_name_and_a_category(
        self, kubernetes: KubernetesAPI, namespace: str, store: CRDPersistence
    ) -> None:
        created = [store.create(record) for record in samples()]
        found = [kubernetes.get(name, "-n", namespace)["items"] for name in SHORT_NAMES]
        assert [len(items) for items in found] == [1] * len(SHORT_NAMES)
        assert {items[0]["spec"]["id"] for items in found} == {record.id for record in created}
        everything = kubernetes.kubectl("get", "cinderbox", "-n", namespace, "-o", "name").splitlines()
        assert len(everything) == len(created)

    def test_explain(self, kubernetes: KubernetesAPI) -> None:
        for name in SHORT_NAMES:
            explained = kubernetes.kubectl("explain", f"{name}.spec", "--recursive=false")
            assert "<no description>" not in explained, name
        assert "Size in GiB." in kubernetes.kubectl("explain", "cvol.spec.size")

    def test_a_state_that_waits_is_said_with_its_reason(
        self, kubernetes: KubernetesAPI, namespace: str, store: CRDPersistence
    ) -> None:
        intent = Intent(name="pvc-1", phase=Phase.DEFERRED, condition="its snapshots need it")
        volume = store.create(a_volume(intent=intent))

        def status() -> Any:
            return kubernetes.get("cvol", volume.id, "-n", namespace).get("status", {})

        wait_until(lambda: bool(status()), lambda: "no status")
        assert status()["state"] == "deferred"
        (condition,) = status()["conditions"]
        assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "False", "Deferred")
        assert condition["message"] == "its snapshots need it"

    def test_statuses_follow_and_are_written_once(
        self, kubernetes: KubernetesAPI, namespace: str, store: CRDPersistence
    ) -> None:
        volume = store.create(a_volume())
        connection = store.create(ConnectionRecord(id=new_id(), volume_id=volume.id, node_id="worker"))

        def attached() -> Any:
            return kubernetes.get("cvol", volume.id, "-n", namespace).get("status", {}).get("attachedTo")

        wait_until(lambda: attached() == "worker", lambda: str(attached()))
        store.delete(connection)
        wait_until(lambda: attached() is None, lambda: str(attached()))
        assert kubernetes.get("cvol", volume.id, "-n", namespace)["status"]["nodes"] == []


class TestSpec:
    def test_restored_without_status_it_serves(
        self, kubernetes: KubernetesAPI, namespace: str, open_store: Callable[..., CRDPersistence]
    ) -> None:
        first = open_store()
        created = [first.create(record) for record in samples()]
        saved = [kubernetes.get(name, "-n", namespace)["items"][0] for name in SHORT_NAMES]
        for record in created:
            first.delete(record)
        for resource in saved:
            kept = {key: resource["metadata"][key] for key in ("name", "namespace")}
            resource.update(metadata=kept)
            resource.pop("status", None)
            kubernetes.kubectl("create", "-f", "-", input_text=json.dumps(resource))

        second = open_store()
        second.start_upkeep()

        *others, node = [second.get(type(record), record.id) for record in created]
        assert others == created[:-1]
        # A node counts from when the API server made its resource.
        assert node is not None and node == replace(created[-1], created_at=node.created_at)
        kubernetes.kubectl("wait", "cvol", "--all", "-n", namespace, "--for=jsonpath={.status.size}=7Gi")

    def test_what_cannot_change_does_not(
        self, kubernetes: KubernetesAPI, namespace: str, store: CRDPersistence
    ) -> None:
        volume = store.create(a_volume())
        snapshot = store.create(SnapshotRecord(id=new_id(), volume_id=volume.id))

        def patched(kind: str, name: str, **spec: Any) -> str:
            patch = json.dumps({"spec": spec})
            return kubernetes.kubectl("patch", kind, name, "-n", namespace, "--type=merge", "-p", patch, check=False)

        assert "size cannot shrink" in patched("cvol", volume.id, size=6)
        assert "id cannot be changed" in patched("cvol", volume.id, id=new_id())
        assert "volumeId cannot be changed" in patched("csnap", snapshot.id, volumeId=new_id())
        assert "Unsupported value" in patched("cvol", volume.id, intent={"phase": "nowhere"})
        assert "Invalid value" in patched("cvol", volume.id, size="seven")
        with pytest.raises(PersistenceError, match="shrink"):
            store.update(replace(volume, size=6))
        assert store.get(VolumeRecord, volume.id) == volume

    def test_others_labels_annotations_and_finalizers_stay(
        self, kubernetes: KubernetesAPI, namespace: str, store: CRDPersistence
    ) -> None:
        volume = store.create(a_volume())
        for command in ("label", "annotate"):
            kubernetes.kubectl(command, "cvol", volume.id, "-n", namespace, "team.example/owner=me")
        volume = store.update(replace(volume, size=8))
        metadata = kubernetes.get("cvol", volume.id, "-n", namespace)["metadata"]
        assert metadata["labels"]["team.example/owner"] == metadata["annotations"]["team.example/owner"] == "me"
        assert metadata["labels"]["cinderbox.io/claim"] == "orders"

    def test_secrets_are_sealed(
        self, kubernetes: KubernetesAPI, namespace: str, open_store: Callable[..., CRDPersistence]
    ) -> None:
        old, new = bytes(32), bytes(range(32))
        sealed = SealingStore(open_store(), Sealer([old]))
        volume = sealed.create(a_volume(provider_auth="CHAP user S3cret"))
        connection = ConnectionRecord(
            id=new_id(), volume_id=volume.id, connection_info={"conn": {"data": {"auth_password": "S3cret"}}}
        )
        connection = sealed.create(connection)

        def in_clear() -> bool:
            return "S3cret" in kubernetes.kubectl("get", "cinderbox", "-n", namespace, "-o", "yaml")

        assert not in_clear()
        rotating = SealingStore(open_store(), Sealer([new, old]))
        assert rotating.reseal() == 2
        rotated = SealingStore(open_store(), Sealer([new]))
        found = rotated.get(VolumeRecord, volume.id), rotated.get(ConnectionRecord, connection.id)
        assert found[0] is not None and found[0].provider_auth == "CHAP user S3cret"
        assert found[1] is not None and found[1].connection_info == connection.connection_info
        assert not in_clear()


class TestDeletion:
    def state(self, kubernetes: KubernetesAPI, namespace: str, volume: VolumeRecord) -> str:
        found = kubernetes.kubectl("get", "cvol", volume.id, "-n", namespace, "-o", "json", check=False)
        if "NotFound" in found:
            return "gone"
        conditions = json.loads(found).get("status", {}).get("conditions", [])
        return next((one["message"] for one in conditions if one["type"] == "DeletionHeld"), "")

    def test_a_deleted_record_stays_until_nothing_needs_it(
        self, kubernetes: KubernetesAPI, namespace: str, store: CRDPersistence
    ) -> None:
        volume = store.create(a_volume())
        snapshot = store.create(SnapshotRecord(id=new_id(), volume_id=volume.id))
        claimed = {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"pv-{namespace}"},
            "spec": {
                "capacity": {"storage": "7Gi"},
                "accessModes": ["ReadWriteOnce"],
                "csi": {"driver": "csi.cinderbox.io", "volumeHandle": volume.id},
            },
        }
        kubernetes.kubectl("create", "-f", "-", input_text=json.dumps(claimed))

        def state() -> str:
            return self.state(kubernetes, namespace, volume)

        kubernetes.kubectl("delete", "cvol", volume.id, "-n", namespace, "--wait=false")
        wait_until(lambda: "annotate it with cinderbox.io/allow-delete" in state(), state)
        kubernetes.kubectl("annotate", "cvol", volume.id, "-n", namespace, "cinderbox.io/allow-delete=true")
        wait_until(lambda: f"snapshot {snapshot.id} refers to it" in state(), state)
        assert store.get(VolumeRecord, volume.id) == volume
        store.delete(snapshot)
        kubernetes.kubectl("annotate", "cvol", volume.id, "-n", namespace, "again=1")
        wait_until(lambda: f"PersistentVolume pv-{namespace} refers to it" in state(), state)
        kubernetes.kubectl("delete", "pv", f"pv-{namespace}", "--wait=false")
        kubernetes.kubectl("patch", "pv", f"pv-{namespace}", "-p", '{"metadata":{"finalizers":null}}', check=False)
        # It may be gone before: the store looks again by itself.
        kubernetes.kubectl("annotate", "cvol", volume.id, "-n", namespace, "again=2", "--overwrite", check=False)
        wait_until(lambda: state() == "gone", state)
        wait_until(lambda: store.get(VolumeRecord, volume.id) is None, lambda: "still there")

    def test_the_driver_deletes_what_a_person_has_deleted(
        self, kubernetes: KubernetesAPI, namespace: str, store: CRDPersistence
    ) -> None:
        volume = store.create(a_volume())
        kubernetes.kubectl("delete", "cvol", volume.id, "-n", namespace, "--wait=false")
        wait_until(
            lambda: "allow-delete" in self.state(kubernetes, namespace, volume), lambda: "no condition was written"
        )
        volume = store.update(replace(volume, status="deleting"))
        store.delete(volume)
        assert self.state(kubernetes, namespace, volume) == "gone"


class TestWrites:
    """Calls that change something and are waited for; statuses are written by themselves."""

    def test_a_deletion_that_is_recorded_takes_two(self, kubernetes: KubernetesAPI, store: CRDPersistence) -> None:
        volume = store.create(a_volume())
        before = kubernetes.writes()
        volume = store.update(replace(volume, status="deleting"))
        store.delete(volume)
        assert kubernetes.writes() - before == {"PUT cindervolumes": 1, "DELETE cindervolumes": 1}
        assert kubernetes.writes().total() == before.total() + 2

    def test_a_volume_is_in_use_by_its_connections(self, kubernetes: KubernetesAPI, store: CRDPersistence) -> None:
        def seen() -> tuple[str, str]:
            found = store.get(VolumeRecord, volume.id)
            assert found == store.find(VolumeRecord)[0]
            return found.status, found.attach_status

        volume = store.create(a_volume())
        connection = store.create(ConnectionRecord(id=new_id(), volume_id=volume.id, attach_status="attaching"))
        assert seen() == ("available", "detached")
        connection = store.update(replace(connection, attach_status="attached"))
        assert seen() == ("in-use", "attached")
        before = kubernetes.get("cvol", volume.id, "-n", store.namespace)["spec"]
        volume = store.update(replace(volume, status="in-use", attach_status="attached", display_name="new"))
        after = kubernetes.get("cvol", volume.id, "-n", store.namespace)["spec"]
        assert {name for name in after if after[name] != before.get(name)} == {"displayName", "revision", "updatedAt"}
        connection = store.update(replace(connection, attach_status="error_detaching"))
        assert seen() == ("in-use", "attached")
        store.delete(connection)
        assert seen() == ("available", "detached")

    def test_reading_costs_no_call(
        self, kubernetes: KubernetesAPI, open_store: Callable[..., CRDPersistence], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("csi_plugin.persistence.crd.api.RETRY_SECONDS", 0.5)
        store = open_store()
        volume = store.create(a_volume())
        kubernetes.stop_server()
        try:
            assert store.get(VolumeRecord, volume.id) == volume
            assert store.find(VolumeRecord, backend="lvm") == [volume]
            store.health()
            with pytest.raises(PersistenceError, match="is unreachable"):
                store.update(volume)
        finally:
            kubernetes.start()


class TestTroubles:
    def test_the_api_server_is_restarted(
        self, kubernetes: KubernetesAPI, open_store: Callable[..., CRDPersistence]
    ) -> None:
        one, other = open_store(), open_store()
        first = one.create(a_volume())
        wait_until(lambda: other.get(VolumeRecord, first.id) == first, lambda: "the watch brought nothing")
        kubernetes.stop_server()
        kubernetes.start()
        second = one.create(a_volume())
        first = one.update(replace(first, size=8))
        wait_until(lambda: other.find(VolumeRecord) == sorted((first, second), key=_id), lambda: "nothing new came")

    def test_the_version_that_was_watched_has_expired(
        self, kubernetes: KubernetesAPI, open_store: Callable[..., CRDPersistence], cable: Cable
    ) -> None:
        far, near = open_store(cable.url), open_store()
        kept, deleted = near.create(a_volume()), near.create(a_volume())
        wait_until(lambda: len(far.find(VolumeRecord)) == 2, lambda: "the watch brought nothing")
        cable.cut()
        near.delete(deleted)
        kept = near.update(replace(kept, size=9))
        new = near.create(a_volume())
        # A server that has just been started knows nothing of what happened before, and etcd has forgotten it.
        kubernetes.compact()
        kubernetes.stop_server()
        kubernetes.start()
        cable.mend()
        wait_until(lambda: far.find(VolumeRecord) == sorted((kept, new), key=_id), lambda: str(far.find(VolumeRecord)))

    def test_answers_that_are_lost(self, kubernetes: KubernetesAPI, open_store: Callable[..., CRDPersistence]) -> None:
        """The write was done; its repetition must not take that for another writer's."""
        proxy = FaultyProxy(kubernetes)
        store = open_store(proxy.url)
        proxy.lose("POST cindervolumes", "PUT cindervolumes", "DELETE cindervolumes")
        volume = store.create(a_volume())
        changed = store.update(replace(volume, size=8))
        assert (changed.revision, store.find(VolumeRecord)) == (2, [changed])
        store.delete(changed)
        assert store.find(VolumeRecord) == []
        assert proxy.lost == ["POST cindervolumes", "PUT cindervolumes", "DELETE cindervolumes"]
        store.close()
        proxy.close()

    def test_a_watch_that_falls_silent_is_begun_anew(
        self, kubernetes: KubernetesAPI, open_store: Callable[..., CRDPersistence], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = FaultyProxy(kubernetes)
        near = open_store()
        monkeypatch.setattr("csi_plugin.persistence.crd.api.SILENCE_SECONDS", 3.0)
        far = open_store(proxy.url)
        shared = near.create(a_volume())
        wait_until(lambda: far.find(VolumeRecord) == [shared], lambda: "the watch brought nothing")
        proxy.silence()
        changed = near.update(replace(shared, size=9))
        own = far.create(a_volume())  # which is seen at once
        assert far.get(VolumeRecord, own.id) == own
        with pytest.raises(RevisionConflict):  # what is not seen is not overwritten either
            far.update(replace(shared, display_name="mine"))
        new = near.create(a_volume())
        wanted = sorted((changed, own, new), key=_id)
        wait_until(lambda: far.find(VolumeRecord) == wanted, lambda: str(far.find(VolumeRecord)))
        far.close()
        proxy.close()

    @pytest.mark.parametrize("brought", ENDS_AT_ONCE.values(), ids=ENDS_AT_ONCE)
    @pytest.mark.parametrize("is_patient", [False, True])
    def test_watches_that_end_at_once(
        self,
        kubernetes: KubernetesAPI,
        open_store: Callable[..., CRDPersistence],
        monkeypatch: pytest.MonkeyPatch,
        brought: str,
        *,
        is_patient: bool,
    ) -> None:
        """As from a server that forgot a version and says nothing, or a proxy between: what is there is listed, and no
        more often than it can be answered."""
        if is_patient:
            monkeypatch.setattr(list_watch, "_FIRST_PAUSE", 3600)
            monkeypatch.setattr(list_watch, "_LAST_PAUSE", 3600)
        proxy = FaultyProxy(kubernetes)
        proxy.ends_watches = brought
        near, far = open_store(), open_store(proxy.url)
        assert far.find(VolumeRecord) == []
        made = [near.create(a_volume()) for _ in range(20)]
        if is_patient:
            assert proxy.answered["watches"] <= len({VolumeRecord, ConnectionRecord})
        else:
            wanted = sorted(made, key=_id)
            wait_until(lambda: far.find(VolumeRecord) == wanted, lambda: str(far.find(VolumeRecord)))
        far.close()
        proxy.close()

    def test_another_writer_is_noticed(self, open_store: Callable[..., CRDPersistence], cable: Cable) -> None:
        far, near = open_store(cable.url), open_store()
        volume = far.create(a_volume())
        wait_until(lambda: near.get(VolumeRecord, volume.id) == volume, lambda: "the watch brought nothing")
        changed = near.update(replace(volume, size=8))
        with pytest.raises(RevisionConflict):
            far.update(replace(volume, display_name="mine"))
        assert far.get(VolumeRecord, volume.id) == changed

    def test_a_namespace_that_is_not_there(self, kubernetes: KubernetesAPI) -> None:
        store = CRDPersistence(namespace="absent", kubeconfig=str(kubernetes.kubeconfig))
        with pytest.raises(PersistenceError, match="absent"):
            store.create(KeyValueRecord(id="key"))
        store.close()

    def test_a_node_that_may_not_write_says_so(self, kubernetes: KubernetesAPI, namespace: str) -> None:
        kubeconfig = kubernetes.service_account(namespace, "nobody")
        store = CRDPersistence(namespace=namespace, kubeconfig=str(kubeconfig))
        with pytest.raises(PersistenceError, match="cannot list resource"):
            store.create(NodeRecord(id="node"))
        store.close()


def _id(record: Record) -> str:
    return record.id
