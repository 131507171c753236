"""The chart's admission policies on a real API server: who may write and delete records."""

import json
from typing import Any

import pytest

from tests.deploy.api_server import ApiServer
from tests.deploy.chart import RESTRICTED
from tests.support.polling import wait_until

NAMESPACE = "storage"
CONTROLLER = f"--as=system:serviceaccount:{NAMESPACE}:box-cinderbox-controller"
NODE_ACCOUNT = "box-cinderbox-node"
_READER = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "kubectl", "namespace": NAMESPACE}}
READER = [
    {
        **_READER,
        "kind": "Role",
        "rules": [{"apiGroups": ["cinderbox.io"], "resources": ["*/status"], "verbs": ["get"]}],
    },
    {
        **_READER,
        "kind": "RoleBinding",
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "kubectl"},
        "subjects": [{"kind": "ServiceAccount", "name": "box-cinderbox-controller", "namespace": NAMESPACE}],
    },
]
"""kubectl reads what it patches, which the controller's own client does not."""
ALLOW = "cinderbox.io/allow-delete=true"

SPECS: dict[str, dict[str, Any]] = {
    "Volume": {"size": 1},
    "Snapshot": {"volumeId": "some-volume"},
    "Connection": {"volumeId": "some-volume"},
    "GroupSnapshot": {"groupId": "some-group"},
}
"""What a record needs beside its id."""
NEWER = {"updatedAt": "2026-01-02T03:04:05Z"}


def record(kind: str, name: str, *, namespace: str = NAMESPACE) -> dict[str, Any]:
    return {
        "apiVersion": "cinderbox.io/v1",
        "kind": f"Cinder{kind}",
        "metadata": {"name": name, "namespace": namespace, "finalizers": ["cinderbox.io/record"]},
        "spec": {"id": name} | SPECS.get(kind, {}),
    }


class Records:
    """Records in the release's namespace, made as the controller makes them."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server

    def make(self, kind: str, name: str, status: dict[str, Any] | None = None) -> str:
        self.server.create(record(kind, name), CONTROLLER)
        if status:
            self.patch(kind, name, {"status": status}, CONTROLLER, "--subresource=status")
        return f"cinder{kind.lower()}s/{name}"

    def patch(self, kind: str, name: str, change: dict[str, Any], *arguments: str) -> str:
        return self.server.kubectl(*self.patching(kind, name, change, *arguments))

    def patching(self, kind: str, name: str, change: dict[str, Any], *arguments: str) -> list[str]:
        resource = f"cinder{kind.lower()}s/{name}"
        return ["patch", resource, "-n", NAMESPACE, "--type=merge", "-p", json.dumps(change), *arguments]

    def exists(self, resource: str) -> bool:
        return self.server.try_kubectl("get", resource, "-n", NAMESPACE).returncode == 0


@pytest.fixture(scope="module")
def records(api_server: ApiServer) -> Records:
    api_server.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}}])
    api_server.install(RESTRICTED, namespace=NAMESPACE)
    api_server.apply(READER)
    return Records(api_server)


@pytest.mark.parametrize(
    ("kind", "instead"),
    [
        ("Volume", "delete its PersistentVolumeClaim"),
        ("Snapshot", "delete its VolumeSnapshot"),
        ("Connection", "delete the pods that use the volume on that node"),
        ("Group", "delete its VolumeGroupSnapshot"),
        ("GroupSnapshot", "delete its VolumeGroupSnapshot"),
        ("KeyValue", "the driver deletes it"),
        ("Node", "delete the Node"),
    ],
)
def test_nobody_but_the_controller_deletes_records(records: Records, kind: str, instead: str) -> None:
    resource = records.make(kind, f"kept-{kind.lower()}")
    message = records.server.refusal("delete", resource, "-n", NAMESPACE)
    assert "a record of what is on the storage" in message
    assert instead in message
    assert "cinderbox.io/allow-delete=true" in message
    records.patch(kind, f"kept-{kind.lower()}", {"metadata": {"finalizers": []}}, CONTROLLER)
    records.server.kubectl("delete", resource, "-n", NAMESPACE, CONTROLLER)
    assert not records.exists(resource)


@pytest.mark.parametrize("who", ["namespace-controller", "generic-garbage-collector"])
def test_controllers_of_the_cluster_delete_no_records(records: Records, who: str) -> None:
    resource = records.make("Volume", f"outlives-{who}")
    user = f"--as=system:serviceaccount:kube-system:{who}"
    groups = ["--as-group=system:masters"]  # whatever their roles say
    message = records.server.refusal("delete", resource, "-n", NAMESPACE, user, *groups)
    assert "delete its PersistentVolumeClaim" in message
    path = f"/apis/cinderbox.io/v1/namespaces/{NAMESPACE}/cindervolumes"
    message = records.server.refusal("delete", "--raw", path, user, *groups)
    assert "delete its PersistentVolumeClaim" in message
    assert records.exists(resource)


def test_a_person_deletes_an_annotated_record(records: Records) -> None:
    resource = records.make("Volume", "given-up", {"state": "available", "nodes": []})
    records.server.kubectl("annotate", resource, "-n", NAMESPACE, ALLOW)
    removal = records.patching("Volume", "given-up", {"metadata": {"finalizers": []}})
    assert "removed by the driver alone" in records.server.refusal(*removal)
    records.server.kubectl("delete", resource, "-n", NAMESPACE, "--wait=false")
    assert records.exists(resource), "the driver's finalizer holds it"
    records.server.kubectl(*removal)
    assert not records.exists(resource)


@pytest.mark.parametrize(
    ("kind", "status", "use"),
    [
        ("Volume", {"nodes": ["n1", "n2"]}, "it is attached to n1, n2"),
        ("Volume", {"persistentVolume": "pvc-1"}, "PersistentVolume pvc-1 is its"),
        ("Volume", {"snapshots": 2}, "2 snapshots are its"),
        ("Snapshot", {"clones": 1}, "1 volumes need it"),
    ],
)
def test_a_record_in_use_stays_in_spite_of_the_annotation(
    records: Records, kind: str, status: dict[str, Any], use: str
) -> None:
    resource = records.make(kind, f"used-{next(iter(status)).lower()}", status)
    records.server.kubectl("annotate", resource, "-n", NAMESPACE, ALLOW)
    message = records.server.refusal("delete", resource, "-n", NAMESPACE)
    assert f"in use, so its record stays in spite of cinderbox.io/allow-delete: {use}" in message


@pytest.mark.parametrize(
    ("kind", "instead"),
    [
        ("Volume", "set in its PersistentVolumeClaim"),
        ("Snapshot", "made and deleted as VolumeSnapshots"),
        ("Connection", "attached and detached as pods"),
        ("GroupSnapshot", "made and deleted as VolumeGroupSnapshots"),
        ("KeyValue", "only labels and annotations"),
        ("Node", "every node writes its own"),
    ],
)
def test_nobody_but_the_controller_writes_records(records: Records, kind: str, instead: str) -> None:
    name = f"written-{kind.lower()}"
    records.make(kind, name)
    message = records.server.refusal(*records.patching(kind, name, {"spec": NEWER}))
    assert f"spec of a Cinder{kind} is written by the driver alone" in message
    assert instead in message
    removal = records.patching(kind, name, {"metadata": {"finalizers": None}})
    assert "finalizer cinderbox.io/record" in records.server.refusal(*removal)
    records.patch(kind, name, {"spec": NEWER}, CONTROLLER)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("Volume", {"nodes": []}),
        ("Snapshot", {"clones": 0}),
        ("Connection", {"state": "gone"}),
        ("Node", {"volumes": 0}),
    ],
)
def test_nobody_but_the_controller_writes_a_status(records: Records, kind: str, change: dict[str, Any]) -> None:
    name = f"reported-{kind.lower()}"
    records.make(kind, name)
    message = records.server.refusal(*records.patching(kind, name, {"status": change}, "--subresource=status"))
    assert f"status of a Cinder{kind} is written by the driver alone" in message


def test_labels_and_annotations_are_for_everybody(records: Records) -> None:
    resource = records.make("Volume", "labelled")
    records.server.kubectl("label", resource, "-n", NAMESPACE, "team=shop")
    records.server.kubectl("annotate", resource, "-n", NAMESPACE, "note=keep")
    metadata = records.server.get(resource, "-n", NAMESPACE)["metadata"]
    assert (metadata["labels"]["team"], metadata["annotations"]["note"]) == ("shop", "keep")


def test_a_backup_creates_records(records: Records) -> None:
    records.server.create(record("Volume", "restored"))
    assert records.exists("cindervolumes/restored")


def backend(records: Records, name: str) -> str:
    """One that the controller has taken up; people make and write it."""
    manifest = record("Backend", name) | {"spec": {"driver": "LoopDriver"}}
    records.server.create(manifest)
    records.patch("Backend", name, {"status": {"volumes": 1}}, CONTROLLER, "--subresource=status")
    return f"cinderbackends/{name}"


def test_backends_are_written_by_people(records: Records) -> None:
    resource = backend(records, "fast")
    records.patch("Backend", "fast", {"spec": {"suspend": True}})
    status = records.patching("Backend", "fast", {"status": {"volumes": 0}}, "--subresource=status")
    assert "status of a CinderBackend" in records.server.refusal(*status)
    driver = records.patching("Backend", "fast", {"spec": {"driver": "Other"}})
    assert "driver cannot be changed while volumes" in records.server.refusal(*driver)
    records.server.kubectl("delete", resource, "-n", NAMESPACE, "--wait=false")
    assert records.exists(resource), "its finalizer waits for its volumes"


def test_a_backend_goes_when_a_person_forgets_it(records: Records) -> None:
    resource = backend(records, "forgotten")
    removal = records.patching("Backend", "forgotten", {"metadata": {"finalizers": []}})
    message = records.server.refusal(*removal)
    assert "delete its volumes, or annotate it with cinderbox.io/forget=true" in message
    records.server.kubectl("delete", resource, "-n", NAMESPACE, "--wait=false")
    records.server.refusal(*removal)
    records.server.kubectl("annotate", resource, "-n", NAMESPACE, "cinderbox.io/forget=true")
    records.server.kubectl(*removal)
    assert not records.exists(resource)


def test_backends_have_short_names(records: Records) -> None:
    manifest = record("Backend", "n" * 64) | {"spec": {"driver": "LoopDriver"}}
    message = records.server.refusal("create", "-f", "-", stdin=json.dumps(manifest))
    assert "the name of a CinderBackend must have at most 63 characters" in message


def test_other_namespaces_are_not_the_releases_business(records: Records) -> None:
    resource = record("Volume", "foreign", namespace="elsewhere") | {"metadata": {"name": "foreign"}}
    records.server.create(resource, "-n", "elsewhere")
    records.server.kubectl("delete", "cindervolumes/foreign", "-n", "elsewhere")


def test_definitions_stay_unless_annotated(records: Records) -> None:
    name = "cindergroups.cinderbox.io"
    message = records.server.refusal("delete", "crd", name, "--dry-run=server")
    assert "all records of its kind would go, in all namespaces" in message
    records.server.kubectl("annotate", "crd", name, ALLOW)
    records.server.kubectl("delete", "crd", name, "--dry-run=server")
    records.server.kubectl("annotate", "crd", name, ALLOW.split("=")[0] + "-")


def test_the_sealing_keys_stay_unless_annotated(records: Records) -> None:
    secret = ("secret", "box-cinderbox-sealing", "-n", NAMESPACE)
    message = records.server.refusal("delete", *secret, "--dry-run=server")
    assert "the keys that open the secrets in the records of this namespace" in message
    records.server.kubectl("annotate", *secret, ALLOW)
    records.server.kubectl("delete", *secret, "--dry-run=server")
    records.server.kubectl("delete", "secret", "box-cinderbox-settings", "-n", NAMESPACE, "--dry-run=server")


def bound_token(records: Records, node: str) -> str:
    """The token that kubelet gives to a pod of the DaemonSet on a node."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-of-{node}", "namespace": NAMESPACE},
        "spec": {
            "nodeName": node,
            "serviceAccountName": NODE_ACCOUNT,
            "containers": [{"name": "cinderbox", "image": "localhost/cinderbox"}],
        },
    }
    records.server.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}, pod])
    uid = records.server.get("pod", f"pod-of-{node}", "-n", NAMESPACE)["metadata"]["uid"]
    bound = ["--bound-object-kind=Pod", f"--bound-object-name=pod-of-{node}", f"--bound-object-uid={uid}"]
    return records.server.kubectl("create", "token", NODE_ACCOUNT, "-n", NAMESPACE, *bound).strip()


@pytest.fixture(scope="module")
def node_token(records: Records) -> str:
    return bound_token(records, "node-1")


def test_a_node_writes_its_own_record(records: Records, node_token: str) -> None:
    token = f"--token={node_token}"
    records.server.create(record("Node", "node-1"), token)
    records.patch("Node", "node-1", {"spec": {"publicKey": "new"}}, token)
    assert records.server.get("cindernodes/node-1", "-n", NAMESPACE)["spec"]["publicKey"] == "new"


def test_a_node_writes_no_other_nodes_record(records: Records, node_token: str) -> None:
    token = f"--token={node_token}"
    records.make("Node", "node-2")
    message = records.server.refusal(*records.patching("Node", "node-2", {"spec": {"publicKey": "mine"}}, token))
    assert "node node-1 may write its own CinderNode only, not node-2" in message
    message = records.server.refusal("create", "-f", "-", token, stdin=json.dumps(record("Node", "node-3")))
    assert "node node-1 may write its own CinderNode only, not node-3" in message


DANGLING = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-0000-0000-000000000000"}


@pytest.mark.parametrize(
    ("node", "change", "field"),
    [
        (
            "node-5",
            {"metadata": {"annotations": {"cinderbox.io/allow-delete": "true"}}},
            "annotations",
        ),
        ("node-6", {"metadata": {"ownerReferences": [DANGLING]}}, "metadata.ownerReferences"),
        ("node-7", {"metadata": {"finalizers": ["cinderbox.io/record", "example.org/mine"]}}, "metadata.finalizers"),
    ],
)
def test_a_node_lets_nobody_delete_its_record(records: Records, node: str, change: dict[str, Any], field: str) -> None:
    token = f"--token={bound_token(records, node)}"
    new = record("Node", node)
    new["metadata"] |= change["metadata"]
    assert field in records.server.refusal("create", "-f", "-", token, stdin=json.dumps(new))
    records.server.create(record("Node", node), token)
    records.server.kubectl("annotate", f"cindernodes/{node}", "-n", NAMESPACE, "cinderbox.io/note=of-a-person")
    assert field in records.server.refusal(*records.patching("Node", node, change, token))
    fine = {"metadata": {"annotations": {"cinderbox.io/write": "node"}}, "spec": {"publicKey": "new"}}
    records.patch("Node", node, fine, token)


def test_a_node_speaks_for_no_other_in_its_own_record(records: Records) -> None:
    token = f"--token={bound_token(records, 'node-8')}"
    new = record("Node", "node-8") | {"spec": {"id": "node-2"}}
    message = records.server.refusal("create", "-f", "-", token, stdin=json.dumps(new))
    assert "spec.id of CinderNode node-8 must be node-8, not node-2" in message


def test_a_token_of_no_node_writes_no_nodes_record(records: Records) -> None:
    token = records.server.kubectl("create", "token", NODE_ACCOUNT, "-n", NAMESPACE).strip()
    resource = json.dumps(record("Node", "node-4"))
    message = records.server.refusal("create", "-f", "-", f"--token={token}", stdin=resource)
    assert "not bound to a pod on a node" in message


def test_a_node_may_do_nothing_else(records: Records, node_token: str) -> None:
    token = f"--token={node_token}"
    for arguments in (
        ("get", "cindervolumes"),
        ("list", "cindernodes"),
        ("delete", "cindernodes"),
        ("get", "secrets"),
        ("get", "pods"),
    ):
        denied = records.server.try_kubectl("auth", "can-i", *arguments, "-n", NAMESPACE, token)
        assert denied.stdout.strip() == "no", arguments


def _lease(transitions: int) -> dict[str, Any]:
    spec = {"holderIdentity": "some-controller", "leaseDurationSeconds": 15, "leaseTransitions": transitions}
    metadata = {"name": "cinderbox-controller", "namespace": NAMESPACE}
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def _written(name: str, *, write: str, term: str | None, size: int = 1) -> dict[str, Any]:
    """A volume as the controller sends it."""
    sent = record("Volume", name)
    sent["metadata"]["annotations"] = {"cinderbox.io/write": write} | ({"cinderbox.io/epoch": term} if term else {})
    sent["spec"]["size"] = size
    return sent


def test_what_was_sent_in_an_earlier_term_of_the_lease_is_refused(records: Records) -> None:
    """It may arrive minutes later, when what it creates has been created and deleted by the next controller."""
    server = records.server
    server.apply([_lease(6)])
    server.create(_written("sent-in-time", write="1", term="6"), CONTROLLER)
    server.apply([_lease(7)])
    late = json.dumps(_written("sent-too-late", write="2", term="6"))

    def refused(*arguments: str, stdin: str) -> str:
        return server.try_kubectl(*arguments, "-f", "-", CONTROLLER, "--dry-run=server", stdin=stdin).stderr

    # The API server follows the Lease by a watch.
    wait_until(lambda: refused("create", stdin=late) != "", lambda: "a late creation is not refused")
    message = "another controller is active: Lease cinderbox-controller is in its term 7, and this was sent in term 6"
    assert message in refused("create", stdin=late)
    change = {"metadata": {"annotations": {"cinderbox.io/write": "3"}}, "spec": {"size": 2}}
    assert message in server.refusal(*records.patching("Volume", "sent-in-time", change, CONTROLLER))

    # What this controller sends; what it does to a record of the last one's; and what a command does.
    server.create(_written("sent-now", write="4", term="7"), CONTROLLER)
    records.patch("Volume", "sent-in-time", {"status": {"state": "available"}}, CONTROLLER, "--subresource=status")
    records.patch("Volume", "sent-in-time", {"metadata": {"finalizers": []}}, CONTROLLER)
    server.create(_written("sent-by-a-command", write="5", term=None), CONTROLLER)
    # A restored backup is a person's decision.
    server.create(_written("out-of-a-backup", write="6", term="3"))
