"""The chart's RBAC is enough, and no more: what runs with it is the real metadata plugin."""

import threading
import uuid
from collections.abc import Iterator

import pytest

from csi_plugin.persistence.crd import CRDPersistence
from csi_plugin.persistence.crd.backend_resources import BackendReport, Condition, DesiredBackend
from csi_plugin.persistence.crd.events import Events, reference
from csi_plugin.persistence.records import RECORD_TYPES, VolumeRecord
from csi_plugin.server.cinder_backend_configuration import Refused, configuration_of
from tests.deploy.api_server import ApiServer
from tests.deploy.chart import ARRAY, RESTRICTED, Object, one, render

pytestmark = pytest.mark.kubernetes  # helm renders the chart
NAMESPACE = "rights"
SPECS = {"snapshot": {"volume_id": "v"}, "connection": {"volume_id": "v"}, "group_snapshot": {"group_id": "g"}}


READ = "get list watch"
RECORDS = (
    "cindervolumes cindersnapshots cinderconnections cinderkeyvalues cindergroups cindergroupsnapshots cindernodes"
)
# What each program asks the API server for: verbs by group/resource, of the cluster and of its own namespace.
CLUSTER_NEEDS: dict[str, dict[str, str]] = {
    "provisioner": {
        "/persistentvolumes": f"{READ} create patch delete",
        "/persistentvolumeclaims": f"{READ} update",  # the finalizer of a claim that is cloned
        "/events": "list watch create update patch",
        "/nodes": READ,
        "storage.k8s.io/storageclasses": READ,
        "storage.k8s.io/csinodes": READ,
        "storage.k8s.io/volumeattributesclasses": READ,
        "storage.k8s.io/volumeattachments": READ,
        "snapshot.storage.k8s.io/volumesnapshots": f"{READ} update",  # the finalizer of one that is restored
        "snapshot.storage.k8s.io/volumesnapshotcontents": "get list",
    },
    "attacher": {
        "/persistentvolumes": f"{READ} patch",
        "storage.k8s.io/csinodes": READ,
        "storage.k8s.io/volumeattachments": f"{READ} patch",
        "storage.k8s.io/volumeattachments/status": "patch",
    },
    "resizer": {
        "/persistentvolumes": f"{READ} patch",
        "/persistentvolumeclaims": READ,
        "/persistentvolumeclaims/status": "patch",
        "/events": "list watch create update patch",
        "storage.k8s.io/volumeattributesclasses": READ,
    },
    "snapshotter": {
        "/events": "list watch create update patch",
        "snapshot.storage.k8s.io/volumesnapshotclasses": READ,
        "snapshot.storage.k8s.io/volumesnapshotcontents": f"{READ} update patch",
        "snapshot.storage.k8s.io/volumesnapshotcontents/status": "update patch",
        "groupsnapshot.storage.k8s.io/volumegroupsnapshotclasses": READ,
        "groupsnapshot.storage.k8s.io/volumegroupsnapshotcontents": f"{READ} update patch",
        "groupsnapshot.storage.k8s.io/volumegroupsnapshotcontents/status": "update patch",
    },
    "controller": {
        "/persistentvolumes": "list",
        "/nodes": "list",
        "networking.k8s.io/servicecidrs": "list",
        "snapshot.storage.k8s.io/volumesnapshotcontents": "list",
        "groupsnapshot.storage.k8s.io/volumegroupsnapshotcontents": "list",
    },
}
NAMESPACE_NEEDS: dict[str, dict[str, str]] = {
    "provisioner": {
        "storage.k8s.io/csistoragecapacities": f"{READ} create update patch delete",
        # The owners of capacities.
        "/pods": "get",
        "apps/replicasets": "get",
    },
    "sidecars": {"coordination.k8s.io/leases": "get create update"},
    "controller": {
        **{f"cinderbox.io/{kind}": f"{READ} create update patch delete" for kind in RECORDS.split()},
        **{f"cinderbox.io/{kind}/status": "patch" for kind in RECORDS.split() if kind != "cinderkeyvalues"},
        "cinderbox.io/cinderbackends": f"{READ} patch",
        "cinderbox.io/cinderbackends/status": "patch",
        "coordination.k8s.io/leases": "get create update",
        "events.k8s.io/events": "get create patch",
        "/secrets": "get",
        "/secrets box-cinderbox-sealing": "get create patch",
    },
}
NODE_NEEDS = {"cinderbox.io/cindernodes": "get create update patch"}
NODE_CLUSTER_NEEDS = {"/nodes": "get"}  # whether it is drained


def given(role: Object) -> dict[str, set[str]]:
    """Verbs of a role by group/resource, with the names that they are limited to behind a blank."""
    found: dict[str, set[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                key = " ".join([f"{group}/{resource}", *rule.get("resourceNames", [])])
                found.setdefault(key, set()).update(rule["verbs"])
    return found


def needed(*programs: dict[str, str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for program in programs:
        for what, verbs in program.items():
            found.setdefault(what, set()).update(verbs.split())
    return found


def test_the_chart_gives_what_is_needed_and_nothing_else() -> None:
    manifests = render(RESTRICTED)
    assert given(one(manifests, "ClusterRole", "-controller")) == needed(*CLUSTER_NEEDS.values())
    assert given(one(manifests, "Role", "-controller")) == needed(*NAMESPACE_NEEDS.values())
    assert given(one(manifests, "ClusterRole", "-node")) == needed(NODE_CLUSTER_NEEDS)
    assert given(one(manifests, "Role", "-node")) == needed(NODE_NEEDS)


def test_without_snapshots_their_rights_are_not_given() -> None:
    manifests = render(RESTRICTED | {"sidecars": {"snapshotter": {"enabled": False}}})
    left = {name: needs for name, needs in CLUSTER_NEEDS.items() if name != "snapshotter"}
    groups = "groupsnapshot.storage.k8s.io/volumegroupsnapshotcontents"
    assert given(one(manifests, "ClusterRole", "-controller")) == {
        what: verbs for what, verbs in needed(*left.values()).items() if what != groups
    }


@pytest.mark.parametrize(
    ("names", "backends", "wanted"),
    [
        (None, [ARRAY], ["/secrets"]),
        ([], [ARRAY], []),
        (["own"], [ARRAY], ["/secrets own"]),
        (
            ["own"],
            [ARRAY | {"secretOptions": {"a": "b"}}, ARRAY | {"name": "other", "secretRef": {"name": "known"}}],
            ["/secrets box-cinderbox-backend-array known own"],
        ),
    ],
)
def test_secrets_can_be_limited_to_those_of_backends(
    names: list[str] | None, backends: list[Object], wanted: list[str]
) -> None:
    role = one(render({"backends": backends, "rbac": {"secretNames": names}}), "Role", "-controller")
    found = [what for what in given(role) if what.startswith("/secrets") and not what.endswith("-sealing")]
    assert found == wanted


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
        *("list pods", "watch pods", "update cindervolumes --subresource=finalizers"),
    ],
)
def test_the_controller_may_not(server: ApiServer, verb_and_resource: str) -> None:
    user = f"--as=system:serviceaccount:{NAMESPACE}:box-cinderbox-controller"
    assert server.try_kubectl("auth", "can-i", *verb_and_resource.split(), "-n", NAMESPACE, user).stdout.strip() == "no"


@pytest.mark.parametrize(("account", "answer"), [("controller", "yes"), ("node", "no")])
def test_the_controller_may_make_persistent_volumes_and_a_node_may_not(
    server: ApiServer, account: str, answer: str
) -> None:
    """Which is access to every host: docs/threat-model.md says so."""
    user = f"--as=system:serviceaccount:{NAMESPACE}:box-cinderbox-{account}"
    assert server.try_kubectl("auth", "can-i", "create", "persistentvolumes", user).stdout.strip() == answer


@pytest.mark.parametrize(("namespace", "answer"), [(NAMESPACE, "yes"), ("default", "no")])
def test_the_controller_reads_secrets_of_its_namespace_alone(server: ApiServer, namespace: str, answer: str) -> None:
    user = f"--as=system:serviceaccount:{NAMESPACE}:box-cinderbox-controller"
    assert server.try_kubectl("auth", "can-i", "get", "secrets", "-n", namespace, user).stdout.strip() == answer


def test_a_secret_that_the_chart_does_not_name_may_not_be_read(api_server: ApiServer) -> None:
    values = RESTRICTED | {"driverName": "limited.example", "rbac": {"secretNames": ["own"]}}
    api_server.install(values, namespace="limited")
    for name in ("own", "other"):
        metadata = {"name": name, "namespace": "limited"}
        api_server.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"a": "b"}})
    kubeconfig = api_server.service_account("limited", "box-cinderbox-controller")
    store = CRDPersistence(namespace="limited", kubeconfig=str(kubeconfig))
    wanted = [DesiredBackend(name="fast", driver="LoopDriver", secret=name) for name in ("own", "other")]
    assert configuration_of(wanted[0], store.backends, topologies=[]).options == {"a": "b"}
    with pytest.raises(Refused, match=r"Secret other .* may not be read .* rbac\.secretNames") as refused:
        configuration_of(wanted[1], store.backends, topologies=[])
    assert refused.value.reason == "SecretForbidden"
    store.close()
