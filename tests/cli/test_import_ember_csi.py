"""From ember-csi's custom resources to volumes that are served, on a real API server and the loop driver."""

import copy
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.persistence.sealing import generate_key
from csi_plugin.protocol import csi_pb2
from tests.support.kubernetes_api import KubernetesAPI
from tests.support.polling import wait_until
from tests.support.project import PROJECT
from tests.support.serving import Served

CINDERLIB = PROJECT / "tests" / "data" / "cinderlib-5.2.0" / "dumps.json"
KINDS = {"Volume": "volumes", "Snapshot": "snapshots", "Connection": "connections", "KeyValue": "keyvalues"}
WRITER = csi_pb2.VolumeCapability.AccessMode(mode=csi_pb2.VolumeCapability.AccessMode.SINGLE_NODE_WRITER)
MOUNT = csi_pb2.VolumeCapability(mount=csi_pb2.VolumeCapability.MountVolume(fs_type="ext4"), access_mode=WRITER)

# What a program with cinderlib's API and ember-csi's habits makes: volumes on the storage, and their JSON forms.
MAKE = """
import json, sys
import csi_plugin as cl

cl.setup(persistence_config={"storage": "memory"})
driver = "csi_plugin.storage.drivers.loop.LoopDriver"
backend = cl.Backend(volume_backend_name="loop", volume_driver=driver, loop_volumes_dir=sys.argv[1])
used = backend.create_volume(1, name="pvc-used", extra_specs={"thin": "true"})
snapshot = used.create_snapshot(name="snapshot-1")
deleted = backend.create_volume(1, name="pvc-deleted")
of_deleted = deleted.create_snapshot(name="snapshot-2")
deleted._ovo.status = "deleted"  # as ember-csi does to a volume that has snapshots
json.dump([one.to_json(simplified=True) for one in (used, snapshot, deleted, of_deleted)], sys.stdout)
"""


@pytest.fixture(scope="module")
def ember(kubernetes: KubernetesAPI) -> KubernetesAPI:
    """An API server that knows ember-csi's resources."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    definitions = [
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.ember-csi.io"},
            "spec": {
                "group": "ember-csi.io",
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                "versions": [version],
            },
        }
        for kind, plural in KINDS.items()
    ]
    create(kubernetes, "default", definitions)
    kubernetes.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    return kubernetes


@pytest.fixture
def source(ember: KubernetesAPI) -> str:
    """The namespace that ember-csi was in."""
    return ember.new_namespace()


@pytest.fixture
def target(ember: KubernetesAPI) -> str:
    """The namespace that Cinderbox is in."""
    return ember.new_namespace()


@pytest.fixture
def served(ember: KubernetesAPI, target: str, tmp_path: Path) -> Iterator[Served]:
    served = Served(
        tmp_path,
        persistence={"storage": "crd", "namespace": target, "kubeconfig": str(ember.kubeconfig)},
        environment={
            "CINDERBOX_SEALING_KEYS": generate_key(),
            "X_CSI_EMBER_CONFIG": '{"plugin_name": "loop"}',
            "X_CSI_NODE_ID": "worker-1",
        },
    )
    yield served
    served.close()


def create(kubernetes: KubernetesAPI, namespace: str, resources: list[dict[str, Any]]) -> None:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": resources})
    kubernetes.kubectl("create", "-n", namespace, "-f", "-", input_text=text)


def resource(kind: str, name: str, **annotations: str) -> dict[str, Any]:
    metadata = {"name": name, "annotations": annotations}
    return {"apiVersion": "ember-csi.io/v1", "kind": kind, "metadata": metadata}


def of_object(form: dict[str, Any]) -> dict[str, Any]:
    return resource(form["class"], form["ovo"]["versioned_object.data"]["id"], json=json.dumps(form))


def from_cinderlib() -> list[dict[str, Any]]:
    """What cinderlib itself wrote: its volumes, with the snapshots and connections that are inside of them."""
    found = []
    for form in json.loads(CINDERLIB.read_text())[0]["volumes"]:
        found.append(of_object(form))
        data = form["ovo"]["versioned_object.data"]
        for kind, name in (("Snapshot", "snapshots"), ("Connection", "volume_attachment")):
            for inner in data[name]["versioned_object.data"]["objects"]:
                found.append(of_object({"class": kind, "backend": form["backend"], "ovo": inner}))
    return found


def run_import(served: Served, ember: KubernetesAPI, source: str, *, expect: int = 0) -> str:
    arguments = ("import-ember-csi", "--namespace", source, "--kubeconfig", str(ember.kubeconfig))
    return served.command(*arguments, expect=expect)


def test_imported_volumes_are_served_by_their_handles(
    ember: KubernetesAPI, source: str, served: Served, tmp_path: Path
) -> None:
    served.volumes.mkdir(mode=0o700)
    made = subprocess.run([sys.executable, "-c", MAKE, served.volumes], check=True, capture_output=True, text=True)
    forms = json.loads(made.stdout)
    used, snapshot, deleted, of_deleted = (form["ovo"]["versioned_object.data"]["id"] for form in forms)
    old = tmp_path / "old"
    old.mkdir()
    (old / "orders").write_text("from before")
    subprocess.run(["mkfs.ext4", "-q", "-d", old, served.volumes / f"volume-{used}"], check=True)
    create(ember, source, [of_object(form) for form in forms])

    printed = run_import(served, ember, source)
    assert "volumes on backend loop, which the settings have to name so: 2" in printed
    assert "left out" not in printed

    served.start()
    assert served.identity.GetPluginInfo(csi_pb2.GetPluginInfoRequest()).name == "loop.ember-csi.io"
    listed = served.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries
    assert [entry.volume.volume_id for entry in listed] == [used]
    staging = tmp_path / "staging"
    staging.mkdir()
    attributes = {"thin": "true", "storage.kubernetes.io/csiProvisionerIdentity": "1-2-ember-csi.io"}
    published = served.controller.ControllerPublishVolume(
        csi_pb2.ControllerPublishVolumeRequest(
            volume_id=used, node_id="worker-1", volume_capability=MOUNT, volume_context=attributes
        )
    )
    served.node.NodeStageVolume(
        csi_pb2.NodeStageVolumeRequest(
            volume_id=used,
            publish_context=published.publish_context,
            staging_target_path=str(staging),
            volume_capability=MOUNT,
            volume_context=attributes,
        )
    )
    assert (staging / "orders").read_text() == "from before"
    served.node.NodeUnstageVolume(csi_pb2.NodeUnstageVolumeRequest(volume_id=used, staging_target_path=str(staging)))
    served.controller.ControllerUnpublishVolume(
        csi_pb2.ControllerUnpublishVolumeRequest(volume_id=used, node_id="worker-1")
    )

    origin = csi_pb2.VolumeContentSource(snapshot=csi_pb2.VolumeContentSource.SnapshotSource(snapshot_id=snapshot))
    restored = served.controller.CreateVolume(
        csi_pb2.CreateVolumeRequest(
            name="pvc-restored",
            volume_capabilities=[MOUNT],
            volume_content_source=origin,
            capacity_range=csi_pb2.CapacityRange(required_bytes=1024**3),
        )
    ).volume.volume_id
    for snapshot_id in (snapshot, of_deleted):
        served.controller.DeleteSnapshot(csi_pb2.DeleteSnapshotRequest(snapshot_id=snapshot_id))
    assert f"volume-{deleted}" not in served.files()  # it went with the snapshot that it was kept for
    for volume_id in (used, restored):
        served.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume_id))
    assert served.files() == []


def test_what_cinderlib_wrote_arrives_sealed(ember: KubernetesAPI, source: str, target: str, served: Served) -> None:
    connector = {"platform": "x86_64", "os_type": "linux", "multipath": False, "initiator": "iqn.example:1"}
    create(
        ember,
        source,
        [
            *from_cinderlib(),
            resource("KeyValue", "worker-1", value=json.dumps(connector)),
            resource("KeyValue", "ember-csi.io.controller.host-1.probe", value="7"),
            resource("KeyValue", "replication-token", value="3"),
            resource("Volume", "damaged", json="{"),
            resource("Snapshot", "empty"),
        ],
    )

    printed = run_import(served, ember, source, expect=1)

    assert "left out: volume damaged: its annotation json is not cinderlib's form of an object" in printed
    assert "left out: snapshot empty: it has no annotation json" in printed
    assert "left out: key_value worker-1: it says who a node is" in printed
    assert printed.count("left out") == 4
    counts = {kind: len(ember.get(kind, "-n", target)["items"]) for kind in ("cvol", "csnap", "cconn", "ckv")}
    assert counts == {"cvol": 4, "csnap": 1, "cconn": 1, "ckv": 1}
    (connection,) = ember.get("cconn", "-n", target)["items"]
    assert connection["spec"]["attachStatus"] == "attached"
    assert "oldsecret" not in json.dumps(ember.get("cvol,cconn,csnap", "-n", target))
    hosts = {volume["spec"]["host"] for volume in ember.get("cvol", "-n", target)["items"]}
    assert hosts == {"vm@legacy#pool1"}
    again = run_import(served, ember, source, expect=1)
    assert "volume (4 were there): 0 records" in again


def test_an_import_that_is_killed_goes_on(ember: KubernetesAPI, source: str, target: str, served: Served) -> None:
    form = json.loads(CINDERLIB.read_text())[0]["volumes"][0]
    resources = []
    for number in range(100):
        one = copy.deepcopy(form)
        one["ovo"]["versioned_object.data"] |= {"id": str(uuid.UUID(int=number)), "display_name": f"pvc-{number}"}
        resources.append(of_object(one))
    create(ember, source, resources)

    def arrived() -> list[str]:
        return ember.kubectl("get", "cvol", "-n", target, "-o", "name").split()

    running = served.begin("import-ember-csi", "--namespace", source, "--kubeconfig", str(ember.kubeconfig))
    wait_until(lambda: len(arrived()) >= 5, arrived)
    running.kill()
    running.wait()
    before = len(arrived())
    assert before < 100
    printed = run_import(served, ember, source)
    assert f"volume ({before} were there): {100 - before} records" in printed
    assert len(arrived()) == 100


def test_where_ember_csi_was_not(kubernetes: KubernetesAPI, served: Served) -> None:
    served.command("import-ember-csi", "--kubeconfig", "/nowhere", expect=2)
