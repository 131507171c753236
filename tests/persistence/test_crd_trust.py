"""Records that pass for others, and what nodes say of themselves: what the store believes that others have written."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from csi_plugin.persistence.base import PersistenceError
from csi_plugin.persistence.crd import CRDPersistence
from csi_plugin.persistence.initiators import conflict
from csi_plugin.persistence.records import NAMES_SINCE, NodeRecord, Record, VolumeRecord
from tests.support.kubernetes_api import KubernetesAPI
from tests.support.polling import wait_until


@pytest.fixture
def namespace(kubernetes: KubernetesAPI) -> str:
    return kubernetes.new_namespace()


@pytest.fixture
def open_store(kubernetes: KubernetesAPI, namespace: str) -> Iterator[Callable[[], CRDPersistence]]:
    opened: list[CRDPersistence] = []

    def make() -> CRDPersistence:
        opened.append(CRDPersistence(namespace=namespace, kubeconfig=str(kubernetes.kubeconfig)))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.mark.parametrize("kind", ["CinderNode", "CinderVolume"])
def test_a_record_is_only_what_its_name_says(
    kubernetes: KubernetesAPI, namespace: str, open_store: Callable[[], CRDPersistence], kind: str
) -> None:
    record_type: type[Record] = {"CinderNode": NodeRecord, "CinderVolume": VolumeRecord}[kind]
    before, watching = open_store(), open_store()
    assert watching.find(record_type) == []
    genuine = before.create(record_type(id="victim"))
    spec = {"id": "victim"} | ({"publicKey": "mine"} if kind == "CinderNode" else {"size": 7})
    forged = {"apiVersion": "cinderbox.io/v1", "kind": kind, "metadata": {"name": "attacker"}, "spec": spec}
    kubernetes.kubectl("create", "-n", namespace, "-f", "-", input_text=json.dumps(forged))
    last = watching.create(record_type(id="later"))

    wait_until(lambda: len(before.find(record_type)) == 2, lambda: str(before.find(record_type)))
    for store in (before, watching, open_store()):
        assert store.find(record_type) == [last, genuine]
    with pytest.raises(PersistenceError, match="holds no record"):
        before.create(record_type(id="attacker"))
    kubernetes.kubectl("delete", kind, "attacker", "-n", namespace)
    assert before.get(record_type, "victim") == genuine


def test_what_a_node_says_of_time_counts_for_nothing(
    kubernetes: KubernetesAPI, namespace: str, open_store: Callable[[], CRDPersistence]
) -> None:
    """Which of two nodes has an initiator by right is told by when it came with it, also after a restart."""

    def write(name: str, initiator: str) -> None:
        times = {"createdAt": "1970-01-01T00:00:00Z", "updatedAt": "9999-12-31T00:00:00Z"}
        connector = {"initiator": initiator, NAMES_SINCE: {initiator: "1970-01-01T00:00:00+00:00"}}
        spec = {"id": name, "connector": connector} | times
        resource = {"apiVersion": "cinderbox.io/v1", "kind": "CinderNode", "metadata": {"name": name}, "spec": spec}
        kubernetes.kubectl("apply", "-n", namespace, "-f", "-", input_text=json.dumps(resource))

    def seen() -> Any:
        return kubernetes.get("cnode", "a", "-n", namespace).get("status", {})

    store = open_store()
    store.start_upkeep()
    write("a", "iqn.2026-11.org.example:a")
    write("b", "iqn.2026-11.org.example:b")
    wait_until(lambda: seen().get("seenGeneration") == 1, lambda: str(seen()))
    write("a", "iqn.2026-11.org.example:b")
    wait_until(lambda: seen().get("seenGeneration") == 2, lambda: str(seen()))

    for opened in (store, open_store()):
        a, b = opened.get(NodeRecord, "a"), opened.get(NodeRecord, "b")
        assert a is not None and b is not None
        for node in (a, b):
            created = kubernetes.get("cnode", node.id, "-n", namespace)["metadata"]["creationTimestamp"]
            assert node.created_at == datetime.fromisoformat(created)
        assert b.updated_at is None
        assert a.updated_at is not None and a.updated_at.year < 9999
        assert "node b has iqn.2026-11.org.example:b too" in conflict(a, opened.find, opened.nodes_named)
        assert conflict(b, opened.find, opened.nodes_named) == ""
