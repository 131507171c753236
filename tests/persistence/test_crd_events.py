"""What kubectl tells people about resources that need them: conditions, and Events beside them."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from csi_plugin.persistence.crd import CRDPersistence
from csi_plugin.persistence.crd.events import Events, reference
from csi_plugin.persistence.encoding import utc_now
from csi_plugin.persistence.records import Intent, NodeRecord, Phase, VolumeRecord
from csi_plugin.persistence.testing import new_id
from tests.support.kubernetes_api import KubernetesAPI
from tests.support.polling import wait_until

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
    assert len(events(kubernetes, namespace)) == 1
