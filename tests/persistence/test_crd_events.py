"""What kubectl tells people about resources that need them: conditions, and Events beside them."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from csi_plugin.persistence.crd import CRDPersistence, cluster_nodes
from csi_plugin.persistence.crd.events import Events, reference
from csi_plugin.persistence.encoding import utc_now
from csi_plugin.persistence.records import ConnectionRecord, Intent, NodeRecord, Phase, VolumeRecord
from csi_plugin.persistence.testing import new_id
from tests.support.kubernetes_api import KubernetesAPI
from tests.support.polling import wait_until

NODE = {"apiVersion": "v1", "kind": "Node"}
SHARED = "iqn.2026-11.org.example:cloned"


@pytest.fixture
def namespace(kubernetes: KubernetesAPI) -> str:
    return kubernetes.new_namespace()


@pytest.fixture
def store(kubernetes: KubernetesAPI, namespace: str) -> Iterator[CRDPersistence]:
    opened = CRDPersistence(namespace=namespace, kubeconfig=str(kubernetes.kubeconfig))
    yield opened
    opened.close()


def described(kubernetes: KubernetesAPI, namespace: str, kind: str, name: str) -> str:
    return kubernetes.kubectl("describe", kind, name, "-n", namespace).partition("\nEvents:")[2]


def events(kubernetes: KubernetesAPI, namespace: str) -> list[Any]:
    items: list[Any] = kubernetes.get("events.events.k8s.io", "-n", namespace)["items"]
    return items


def a_leftover(condition: str) -> VolumeRecord:
    intent = Intent(name="pvc-1", phase=Phase.ORPHAN, condition=condition)
    return VolumeRecord(id=new_id(), host="host@lvm", status="error", intent=intent)


def test_a_leftover_that_is_held(kubernetes: KubernetesAPI, namespace: str, store: CRDPersistence) -> None:
    volume = store.create(a_leftover("held: it has a snapshot"))

    def text() -> str:
        return described(kubernetes, namespace, "cvol", volume.id)

    wait_until(lambda: "held: it has a snapshot" in text(), text)
    assert text().split()[text().split().index("Warning") + 1] == "Leftover"
    volume = store.update(replace(volume, status="error_deleting"))
    kubernetes.kubectl("delete", "cvol", volume.id, "-n", namespace, "--wait=false")
    wait_until(lambda: "DeletionHeld" in text(), text)
    assert len(events(kubernetes, namespace)) == 2


def test_a_second_node_with_the_same_initiator(
    kubernetes: KubernetesAPI, namespace: str, store: CRDPersistence
) -> None:
    connector = {"initiator": SHARED}
    first = store.create(NodeRecord(id="first", connector=connector, created_at=utc_now() - timedelta(days=1)))
    first = store.update(first)
    second = store.create(NodeRecord(id="second", connector={"initiator": SHARED.upper()}))

    def ready(name: str) -> str:
        return kubernetes.kubectl("get", "cnode", name, "-n", namespace, "--no-headers").split()[-2]

    wait_until(lambda: (ready("first"), ready("second")) == ("True", "False"), lambda: ready("second"))
    text = described(kubernetes, namespace, "cnode", "second")
    assert "Warning" in text
    assert "DuplicateInitiator" in text
    assert f"node first has {SHARED} too" in text
    assert described(kubernetes, namespace, "cnode", "first").strip() == "<none>"

    store.update(replace(first, connector={"initiator": "iqn.2026-11.org.example:own"}))
    wait_until(lambda: ready("second") == "True", lambda: ready("second"))
    assert store.get(NodeRecord, "second") == second


def test_the_same_event_is_one(kubernetes: KubernetesAPI, namespace: str) -> None:
    where: dict[str, Any] = {"namespace": namespace, "kubeconfig": str(kubernetes.kubeconfig)}
    node = reference("CinderNode", {"name": "worker", "namespace": namespace, "uid": "1"})
    one, other = Events(**where), Events(**where)
    for _ in range(3):
        one.record(node, "Warning", "DuplicateInitiator", "m" * 2000)
    assert [found.get("series") for found in events(kubernetes, namespace)] == [None]
    other.record(node, "Warning", "DuplicateInitiator", "m" * 2000)
    assert [found["series"]["count"] for found in events(kubernetes, namespace)] == [2]
    other.record(node, "Normal", "Registered", "and this is another")
    assert {found["type"] for found in events(kubernetes, namespace)} == {"Warning", "Normal"}
    one.close()
    other.close()


def test_an_event_that_cannot_be_sent_hinders_nothing(
    kubernetes: KubernetesAPI, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    kubeconfig = str(kubernetes.service_account(namespace, "nobody"))
    refused = Events(namespace=namespace, kubeconfig=kubeconfig)
    node = reference("CinderNode", {"name": "worker", "namespace": namespace})
    refused.record(node, "Warning", "DuplicateInitiator", "two of the same")
    assert "two of the same" in caplog.text
    assert "cannot create resource" in caplog.text
    refused.close()


def test_health_of_a_volume(kubernetes: KubernetesAPI, namespace: str, store: CRDPersistence) -> None:
    problems = {"ill": [("NotOnStorage", "the storage does not list it"), ("PoolFull", "pool p is full")]}
    ill, well = (store.create(VolumeRecord(id=new_id(), host="host@lvm", status="available")) for _ in range(2))
    store.use_volume_health(lambda volume_id: problems["ill"] if volume_id == ill.id else [])
    store.volume_health_changed([ill.id])

    def healthy(volume: VolumeRecord) -> list[tuple[str, str, str]]:
        conditions = kubernetes.get("cvol", volume.id, "-n", namespace).get("status", {}).get("conditions", [])
        found = [condition for condition in conditions if condition["type"] == "Healthy"]
        return [(condition["status"], condition["reason"], condition["message"]) for condition in found]

    both = "the storage does not list it; pool p is full"
    wait_until(lambda: healthy(ill) == [("False", "NotOnStorage", both)], lambda: str(healthy(ill)))
    wait_until(lambda: bool(events(kubernetes, namespace)), lambda: "an Event")
    (event,) = events(kubernetes, namespace)
    assert (event["type"], event["reason"], event["note"]) == ("Warning", "NotOnStorage", both)
    problems["ill"] = []
    store.volume_health_changed([ill.id])
    wait_until(lambda: healthy(ill) == [("True", "Healthy", "")], lambda: str(healthy(ill)))
    assert healthy(well) == []
    assert sorted(event["type"] for event in events(kubernetes, namespace)) == ["Normal", "Warning"]


def test_nodes_that_are_gone_are_forgotten(
    kubernetes: KubernetesAPI, namespace: str, store: CRDPersistence, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"worker-{namespace}"
    kubernetes.kubectl("apply", "-f", "-", input_text=json.dumps(NODE | {"metadata": {"name": name}}))
    store.create(NodeRecord(id=name))
    connection = store.create(ConnectionRecord(id=new_id(), volume_id=new_id(), node_id=name))
    nodes = store._cluster_nodes

    def ready() -> tuple[str, str, str]:
        nodes.look()
        conditions = kubernetes.get("cnode", name, "-n", namespace).get("status", {}).get("conditions", [{}])
        return tuple(conditions[0].get(key, "") for key in ("status", "reason", "message"))  # type: ignore[return-value]

    def set_ready(status: str, reason: str) -> None:
        patch = {"status": {"conditions": [{"type": "Ready", "status": status, "reason": reason}]}}
        kubernetes.kubectl("patch", "node", name, "--subresource=status", "-p", json.dumps(patch))

    set_ready("True", "KubeletReady")
    wait_until(lambda: ready()[:2] == ("True", "Registered"), ready)
    set_ready("Unknown", "NodeStatusUnknown")
    wait_until(lambda: ready()[:2] == ("False", "NodeNotReady"), ready)
    set_ready("True", "KubeletReady")
    with monkeypatch.context() as later:
        later.setattr(cluster_nodes, "NODE_LIFETIME_SECONDS", -1.0)
        wait_until(lambda: ready()[:2] == ("False", "NotHeardOf"), ready)

    store.create(NodeRecord(id="no-node-of-the-cluster"))
    kubernetes.kubectl("delete", "node", name)
    wait_until(lambda: ready()[:2] == ("False", "NodeGone"), ready)
    assert "1 volumes are still attached" in ready()[2]
    assert store.get(NodeRecord, name) is not None
    store.delete(connection)
    nodes.look()
    assert [node.id for node in store.find(NodeRecord)] == ["no-node-of-the-cluster"]


def test_a_volume_says_which_persistent_volume_refers_to_it(
    kubernetes: KubernetesAPI, namespace: str, store: CRDPersistence
) -> None:
    """Not the one that it was made for, which may never have come."""
    metadata = {"csi.storage.k8s.io/pv/name": "pvc-1"}
    volume = store.create(a_volume("available", metadata))
    volumes = store._cluster_volumes

    def status() -> tuple[str, str]:
        volumes.look()
        found = kubernetes.get("cvol", volume.id, "-n", namespace).get("status", {"conditions": [{"message": ""}]})
        return found.get("persistentVolume", ""), found["conditions"][0]["message"]

    wait_until(lambda: "no PersistentVolume" in status()[1], status)
    assert status()[0] == ""
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "csi": {"driver": "csi.cinderbox.io", "volumeHandle": volume.id},
    }
    made = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"pv-{namespace}"}, "spec": spec}
    kubernetes.kubectl("create", "-f", "-", input_text=json.dumps(made))
    wait_until(lambda: status() == (f"pv-{namespace}", ""), status)
    kubernetes.kubectl("delete", "pv", f"pv-{namespace}", "--wait=false")


def a_volume(status: str, metadata: dict[str, str]) -> VolumeRecord:
    intent = Intent(name="pvc-1", phase=Phase.READY)
    return VolumeRecord(id=new_id(), host="host@lvm", status=status, metadata=metadata, intent=intent)


def test_a_state_that_is_wrong_says_what_comes_next_and_its_end_is_told(
    kubernetes: KubernetesAPI, namespace: str, store: CRDPersistence
) -> None:
    volume = store.create(a_volume("error_extending", {}))

    def told() -> list[tuple[str, str]]:
        return sorted((event["type"], event["reason"]) for event in events(kubernetes, namespace))

    wait_until(lambda: told() == [("Warning", "ErrorExtending")], told)

    def conditions() -> str:
        status = kubernetes.get("cvol", volume.id, "-n", namespace).get("status", {})
        return " ".join(condition["message"] for condition in status.get("conditions", []))

    wait_until(lambda: "the claim can be given its former size" in conditions(), conditions)
    store.update(replace(volume, status="available"))
    wait_until(lambda: told() == [("Normal", "Available"), ("Warning", "ErrorExtending")], told)


def test_every_state_has_words_also_while_a_deletion_is_held(
    kubernetes: KubernetesAPI, namespace: str, store: CRDPersistence
) -> None:
    states = ("reverting", "managing", "a-driver-s-own")
    volumes = {state: store.create(a_volume(state, {})) for state in states}

    def conditions(volume: VolumeRecord) -> dict[str, tuple[str, str]]:
        found = kubernetes.get("cvol", volume.id, "-n", namespace).get("status", {}).get("conditions", [])
        return {condition["type"]: (condition["reason"], condition["message"]) for condition in found}

    def have_words() -> bool:
        return all(conditions(volume).get("Ready", ("", ""))[1] for volume in volumes.values())

    wait_until(have_words, lambda: [conditions(volume) for volume in volumes.values()])
    held = volumes["reverting"]
    kubernetes.kubectl("delete", "cvol", held.id, "-n", namespace, "--wait=false")
    wait_until(lambda: "DeletionHeld" in conditions(held), lambda: conditions(held))
    current = store.get(VolumeRecord, held.id)
    assert current is not None
    store.update(replace(current, status="error_extending"))
    wait_until(lambda: conditions(held)["Ready"][0] == "ErrorExtending", lambda: conditions(held))
    assert "annotate it" in conditions(held)["DeletionHeld"][1]


def test_the_last_event_tells_how_it_is(kubernetes: KubernetesAPI, namespace: str) -> None:
    backend = reference("CinderBackend", {"name": "lvm", "namespace": namespace, "uid": "1"})
    told = Events(namespace=namespace, kubeconfig=str(kubernetes.kubeconfig))
    for reason in ("Ready", "Suspended", "Ready", "Ready"):
        told.record(backend, "Normal", reason, reason)
    told.close()
    counts = {event["reason"]: (event.get("series") or {}).get("count") for event in events(kubernetes, namespace)}
    assert counts == {"Ready": 2, "Suspended": None}


def test_the_clusters_networks_are_known(kubernetes: KubernetesAPI, store: CRDPersistence) -> None:
    assert store.cluster_networks() == []
    names = [f"networked-{number}" for number in range(2)]
    for number, name in enumerate(names):
        spec = {"podCIDRs": [f"10.244.{number}.0/24"]}
        kubernetes.kubectl(
            "create", "-f", "-", input_text=json.dumps(NODE | {"metadata": {"name": name}, "spec": spec})
        )
    (service,) = kubernetes.get("servicecidr")["items"]
    store._cluster_nodes.look()
    store._cluster_networks.look()
    kubernetes.kubectl("delete", "node", *names)
    assert set(store.cluster_networks()) == {*service["spec"]["cidrs"], "10.244.0.0/23"}
