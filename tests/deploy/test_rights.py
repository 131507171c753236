"""The chart's RBAC is enough, and no more: what runs with it is the real metadata plugin."""

import threading
import uuid
from collections.abc import Iterator

import pytest

from csi_plugin.persistence.crd import CRDPersistence
from csi_plugin.persistence.crd.backend_resources import BackendReport, Condition
from csi_plugin.persistence.crd.events import Events, reference
from csi_plugin.persistence.records import RECORD_TYPES, VolumeRecord
from tests.deploy.api_server import ApiServer
from tests.deploy.chart import RESTRICTED

NAMESPACE = "rights"
SPECS = {"snapshot": {"volume_id": "v"}, "connection": {"volume_id": "v"}, "group_snapshot": {"group_id": "g"}}


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> ApiServer:
    api_server.install(RESTRICTED | {"driverName": "rights.example"}, namespace=NAMESPACE)
    return api_server


@pytest.fixture
def store(server: ApiServer) -> Iterator[CRDPersistence]:
    """As the controller opens it."""
    kubeconfig = server.service_account(NAMESPACE, "box-cinderbox-controller")
    opened = CRDPersistence(namespace=NAMESPACE, kubeconfig=str(kubeconfig))
    yield opened
    opened.close()


@pytest.mark.parametrize("kind", RECORD_TYPES, ids=lambda kind: str(kind.KIND))
def test_the_controller_keeps_its_records(store: CRDPersistence, kind: type[VolumeRecord]) -> None:
    record = store.create(kind(id=str(uuid.uuid4()), **SPECS.get(kind.KIND, {})))
    record = store.update(record)
    assert [found.id for found in store.find(kind)] == [record.id]
    store.delete(record)
    assert list(store.find(kind)) == []


def test_the_controller_takes_its_lease(store: CRDPersistence) -> None:
    assert store.acquire_lease("controller", holder="one", seconds=10)
    assert not store.acquire_lease("controller", holder="two", seconds=10)
    store.release_lease("controller", holder="one")
    assert store.acquire_lease("controller", holder="two", seconds=10)


def test_the_controller_lets_an_annotated_record_go(store: CRDPersistence, server: ApiServer) -> None:
    """The background thread asks Kubernetes whether anything refers to it, and removes the finalizer."""
    name = store.create(VolumeRecord(id=str(uuid.uuid4()), size=1)).id
    server.kubectl("annotate", "cvol", name, "-n", NAMESPACE, "cinderbox.io/allow-delete=true")
    server.kubectl("delete", "cvol", name, "-n", NAMESPACE, "--timeout=30s")


def test_the_controller_sends_events(server: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    kubeconfig = str(server.service_account(NAMESPACE, "box-cinderbox-controller"))
    volume = reference("CinderVolume", {"name": "volume", "namespace": NAMESPACE})
    for _ in range(2):  # the second finds the first one's
        events = Events(namespace=NAMESPACE, kubeconfig=kubeconfig)
        events.record(volume, "Warning", "Leftover", "held")
        events.close()
    (found,) = server.get("events.events.k8s.io", "-n", NAMESPACE)["items"]
    assert (found["note"], found["series"]["count"]) == ("held", 2)
    assert caplog.text == ""


def test_the_controller_keeps_a_backend(store: CRDPersistence, server: ApiServer) -> None:
    metadata = {"name": "fast", "namespace": NAMESPACE}
    spec = {"driver": "LoopDriver", "secretRef": {"name": "fast"}}
    server.create({"apiVersion": "cinderbox.io/v1", "kind": "CinderBackend", "metadata": metadata, "spec": spec})
    server.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"a": "b"}})
    changed = threading.Event()
    store.backends.start(changed.set)
    (wanted,) = [found for found in store.backends.all() if found.name == "fast"]
    assert store.backends.secret("fast") == {"a": "b"}
    store.backends.add_finalizer("fast")
    ready = Condition(status=True, reason="Ready", message="serves")
    store.backends.report(wanted, BackendReport(ready=ready, up_to_date=ready))
    server.kubectl("wait", "cbackend/fast", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=30s")
    changed.clear()
    server.kubectl("delete", "cbackend", "fast", "-n", NAMESPACE, "--wait=false")
    assert changed.wait(30)
    store.backends.remove_finalizer("fast")
    server.kubectl("wait", "cbackend/fast", "-n", NAMESPACE, "--for=delete", "--timeout=30s")


@pytest.mark.parametrize(
    "verb_and_resource",
    [
        *("create pods", "delete nodes", "delete namespaces", "update crd", "list secrets"),
        *("create cinderbackends", "delete cinderbackends"),
    ],
)
def test_the_controller_may_not(server: ApiServer, verb_and_resource: str) -> None:
    user = f"--as=system:serviceaccount:{NAMESPACE}:box-cinderbox-controller"
    assert server.try_kubectl("auth", "can-i", *verb_and_resource.split(), "-n", NAMESPACE, user).stdout.strip() == "no"


@pytest.mark.parametrize(("namespace", "answer"), [(NAMESPACE, "yes"), ("default", "no")])
def test_the_controller_reads_secrets_of_its_namespace_alone(server: ApiServer, namespace: str, answer: str) -> None:
    user = f"--as=system:serviceaccount:{NAMESPACE}:box-cinderbox-controller"
    assert server.try_kubectl("auth", "can-i", "get", "secrets", "-n", namespace, user).stdout.strip() == answer
