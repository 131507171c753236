"""A controller and a node that know each other through custom resources alone."""

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi_plugin.node.cinder_node_client import CinderNodeClient
from csi_plugin.persistence.sealing import generate_key
from csi_plugin.protocol import csi_pb2
from csi_plugin.protocol.sealed_box import generate_private_key, public_key_of
from tests.support.csi import GIB, MOUNT, fails, unless_refused
from tests.support.kubernetes_api import KubernetesAPI
from tests.support.polling import wait_until
from tests.support.serving import Served

NODE = "worker-1"


@pytest.fixture
def namespace(kubernetes: KubernetesAPI) -> str:
    return kubernetes.new_namespace()


@pytest.fixture
def environment(kubernetes: KubernetesAPI, namespace: str) -> dict[str, str]:
    return {"CINDERBOX_SEALING_KEYS": generate_key(), "X_CSI_NODE_ID": NODE}


@pytest.fixture
def persistence(kubernetes: KubernetesAPI, namespace: str) -> dict[str, Any]:
    return {"storage": "crd", "namespace": namespace, "kubeconfig": str(kubernetes.kubeconfig)}


@pytest.fixture
def controller(tmp_path: Path, persistence: dict[str, Any], environment: dict[str, str]) -> Iterator[Served]:
    served = Served(tmp_path, mode="controller", persistence=persistence, environment=environment, name="controller")
    yield served.start()
    served.close()


@pytest.fixture
def node(
    kubernetes: KubernetesAPI, namespace: str, tmp_path: Path, persistence: dict[str, Any], environment: dict[str, str]
) -> Iterator[Served]:
    """With no more rights than a node has."""
    rules = ("--verb=get,create,update,patch", "--resource=cindernodes.cinderbox.io")
    kubernetes.kubectl("create", "role", "node", "-n", namespace, *rules)
    account = f"--serviceaccount={namespace}:node"
    kubernetes.kubectl("create", "rolebinding", "node", "-n", namespace, "--role=node", account)
    kubernetes.kubectl("create", "clusterrole", f"{namespace}-node", "--verb=get", "--resource=nodes")
    role = f"--clusterrole={namespace}-node"
    kubernetes.kubectl("create", "clusterrolebinding", f"{namespace}-node", role, account)
    kubeconfig = str(kubernetes.service_account(namespace, "node"))
    served = Served(
        tmp_path,
        mode="node",
        persistence=persistence | {"kubeconfig": kubeconfig},
        environment=environment,
        name="node",
    )
    yield served.start()
    served.close()


def create(served: Served, name: str) -> csi_pb2.Volume:
    request = csi_pb2.CreateVolumeRequest(
        name=name,
        capacity_range=csi_pb2.CapacityRange(required_bytes=GIB),
        volume_capabilities=[MOUNT],
        parameters={"csi.storage.k8s.io/pvc/namespace": "shop", "csi.storage.k8s.io/pvc/name": "orders"},
    )
    return served.controller.CreateVolume(request).volume


def publish(served: Served, volume: csi_pb2.Volume, node_id: str = NODE) -> dict[str, str]:
    request = csi_pb2.ControllerPublishVolumeRequest(
        volume_id=volume.volume_id,
        node_id=node_id,
        volume_capability=MOUNT,
        volume_context=volume.volume_context,
    )
    return dict(served.controller.ControllerPublishVolume(request).publish_context)


def publish_when_known(served: Served, volume: csi_pb2.Volume) -> dict[str, str]:
    context: dict[str, str] = {}

    def published() -> bool:
        try:
            context.update(publish(served, volume))
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND  # the watch has not brought the node yet
        return bool(context)

    wait_until(published, served.log_text)
    return context


def stage(served: Served, volume: csi_pb2.Volume, context: dict[str, str], staging: Path) -> None:
    staging.mkdir(exist_ok=True)
    request = csi_pb2.NodeStageVolumeRequest(
        volume_id=volume.volume_id,
        publish_context=context,
        staging_target_path=str(staging),
        volume_capability=MOUNT,
        volume_context=volume.volume_context,
    )
    served.node.NodeStageVolume(request)


def wait_for_node(kubernetes: KubernetesAPI, namespace: str, name: str = NODE) -> None:
    def found() -> bool:
        return "NotFound" not in kubernetes.kubectl("get", "cnode", name, "-n", namespace, check=False)

    wait_until(found, lambda: kubernetes.kubectl("get", "cnode", "-n", namespace))


def test_a_volume_from_claim_to_data(
    kubernetes: KubernetesAPI, namespace: str, controller: Served, node: Served, tmp_path: Path
) -> None:
    wait_for_node(kubernetes, namespace)
    volume = create(controller, "pvc-1")
    context = publish_when_known(controller, volume)
    staging, target = tmp_path / "staging", tmp_path / "target"
    stage(node, volume, context, staging)
    node.node.NodePublishVolume(
        csi_pb2.NodePublishVolumeRequest(
            volume_id=volume.volume_id,
            publish_context=context,
            staging_target_path=str(staging),
            target_path=str(target),
            volume_capability=MOUNT,
            volume_context=volume.volume_context,
        )
    )
    (target / "file").write_text("data")

    def row() -> list[str]:
        return kubernetes.kubectl("get", "cvol", "-n", namespace, "--no-headers").split()

    wait_until(lambda: NODE in row(), lambda: " ".join(row()))
    assert row()[:-1] == [volume.volume_id, "in-use", "1Gi", "loop", "loop", NODE, "shop/orders"]
    assert kubernetes.get("cnode", NODE, "-n", namespace)["spec"]["connector"]["host"]

    def published() -> list[str]:
        found: list[str] = kubernetes.get("cnode", NODE, "-n", namespace)["status"].get("published", [])
        return found

    wait_until(lambda: published() == [volume.volume_id], published)
    client = CinderNodeClient(namespace=namespace, kubeconfig=str(kubernetes.kubeconfig))
    assert client.published(NODE) == [volume.volume_id]

    kubernetes.kubectl("create", "-f", "-", input_text=json.dumps(_node_object(unschedulable=False)))
    node.command("wait-for-detach")  # the node stays: its pod may go at once
    kubernetes.kubectl("cordon", NODE)
    waiting = threading.Thread(target=node.command, args=("wait-for-detach",))
    waiting.start()
    node.node.NodeUnpublishVolume(
        csi_pb2.NodeUnpublishVolumeRequest(volume_id=volume.volume_id, target_path=str(target))
    )
    assert waiting.is_alive()
    node.node.NodeUnstageVolume(
        csi_pb2.NodeUnstageVolumeRequest(volume_id=volume.volume_id, staging_target_path=str(staging))
    )
    waiting.join(30)
    assert not waiting.is_alive()
    controller.controller.ControllerUnpublishVolume(
        csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume.volume_id, node_id=NODE)
    )
    controller.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume.volume_id))
    assert controller.files() == []
    wait_until(lambda: published() == [], published)
    assert client.published(NODE) == []
    for kind in ("cvol", "cconn"):
        assert kubernetes.get(kind, "-n", namespace)["items"] == []


def test_a_node_that_has_lost_its_key_gets_its_connections_anew(
    kubernetes: KubernetesAPI, namespace: str, controller: Served, node: Served, tmp_path: Path
) -> None:
    wait_for_node(kubernetes, namespace)
    volume, other = create(controller, "pvc-1"), create(controller, "pvc-2")
    context = publish_when_known(controller, volume)
    old_key = kubernetes.get("cnode", NODE, "-n", namespace)["spec"]["publicKey"]
    node.kill()
    shutil.rmtree(node.state)
    node.start()

    stage(node, volume, context, tmp_path / "staging")

    found = kubernetes.get("cnode", NODE, "-n", namespace)
    assert found["spec"]["publicKey"] not in ("", old_key)
    (entry,) = found["status"]["connections"]
    assert (entry["volumeId"], entry["publicKey"]) == (volume.volume_id, found["spec"]["publicKey"])
    with fails(grpc.StatusCode.NOT_FOUND):
        stage(node, other, context, tmp_path / "other")  # not published: nothing is there to be sealed anew
    node.node.NodeUnstageVolume(
        csi_pb2.NodeUnstageVolumeRequest(volume_id=volume.volume_id, staging_target_path=str(tmp_path / "staging"))
    )
    controller.controller.ControllerUnpublishVolume(
        csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume.volume_id, node_id=NODE)
    )

    def boxes() -> Any:
        return kubernetes.get("cnode", NODE, "-n", namespace)["status"].get("connections")

    wait_until(lambda: boxes() is None, boxes)
    assert publish(controller, volume)  # sealed to the new key at once
    wait_until(lambda: kubernetes.get("cnode", NODE, "-n", namespace)["status"]["volumes"] == 1, boxes)
    assert boxes() is None


def test_resources_that_come_back_from_a_backup_without_status_are_served(
    kubernetes: KubernetesAPI, namespace: str, controller: Served, node: Served
) -> None:
    wait_for_node(kubernetes, namespace)
    volume = create(controller, "pvc-1")
    publish_when_known(controller, volume)
    assert controller.stop() == 0
    assert node.stop() == 0
    kinds = ("cvol", "cconn", "ckv", "cnode")
    saved = [item for kind in kinds for item in kubernetes.get(kind, "-n", namespace)["items"]]
    for item in saved:
        names = (item["kind"], item["metadata"]["name"], "-n", namespace)
        kubernetes.kubectl("patch", *names, "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
        kubernetes.kubectl("delete", *names)
        item.pop("status", None)
        item["metadata"] = {name: item["metadata"][name] for name in ("name", "namespace")}
    kubernetes.kubectl("create", "-f", "-", input_text=json.dumps({"apiVersion": "v1", "kind": "List", "items": saved}))

    controller.start()

    assert create(controller, "pvc-1").volume_id == volume.volume_id
    assert publish(controller, volume)  # it is published, and stays so
    with pytest.raises(grpc.RpcError, match="published to worker-1"):
        controller.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume.volume_id))

    def row() -> list[str]:
        return kubernetes.kubectl("get", "cvol", "-n", namespace, "--no-headers").split()

    wait_until(lambda: NODE in row(), row)
    identified = {"volume_id": volume.volume_id, "node_id": NODE}
    controller.controller.ControllerUnpublishVolume(csi_pb2.ControllerUnpublishVolumeRequest(**identified))
    controller.controller.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume.volume_id))
    assert controller.files() == []


def test_writes_that_are_waited_for(
    kubernetes: KubernetesAPI, namespace: str, controller: Served, node: Served
) -> None:
    """Reads cost none; all else writes its intent and its outcome, a deletion the name too, and nothing more."""
    name = "pvc-5f0c3a9e-2b7d-4c11-9a56-0d1e2f3a4b5c"
    wait_for_node(kubernetes, namespace)
    volume = create(controller, "pvc-warm")
    wait_until(lambda: _is_known(controller, volume), controller.log_text)
    counts: dict[str, int] = {}

    def count(name: str, work: Any) -> Any:
        before = kubernetes.writes()
        answer = work()
        after = kubernetes.writes() - before
        # Nodes write theirs in their own time.
        counts[name] = sum(number for call, number in after.items() if "cindernodes" not in call)
        return answer

    volume = count("create", lambda: create(controller, name))
    count("publish", lambda: publish(controller, volume))
    count("list", lambda: controller.controller.ListVolumes(csi_pb2.ListVolumesRequest()))
    count("create again", lambda: create(controller, name))
    identified = {"volume_id": volume.volume_id, "node_id": NODE}
    unpublish = csi_pb2.ControllerUnpublishVolumeRequest(**identified)
    count("unpublish", lambda: controller.controller.ControllerUnpublishVolume(unpublish))
    delete = csi_pb2.DeleteVolumeRequest(volume_id=volume.volume_id)
    count("delete", lambda: controller.controller.DeleteVolume(delete))

    assert counts == {"create": 2, "publish": 2, "list": 0, "create again": 0, "unpublish": 2, "delete": 3}


def test_that_a_volume_has_a_filesystem_gets_from_the_node_to_the_volume(
    kubernetes: KubernetesAPI, namespace: str, tmp_path: Path, controller: Served, node: Served
) -> None:
    volume = create(controller, "pvc-1")
    # As of a volume on a share, which the node keeps as long as it is heard of.
    stage(node, volume, publish_when_known(controller, volume) | {"unfenced": "true"}, tmp_path / "staging")
    unpublish = csi_pb2.ControllerUnpublishVolumeRequest(volume_id=volume.volume_id, node_id=NODE)

    def recorded() -> bool:
        record = kubernetes.get("cvol", volume.volume_id, "-n", namespace)
        mine = kubernetes.get("cnode", NODE, "-n", namespace)
        is_listed = "csi_formatted_volumes" in mine["spec"]["connector"]
        return not is_listed and bool(record["spec"].get("adminMetadata") == {"cinderbox.io/formatted": "true"})

    wait_until(recorded, controller.log_text)
    unstage = csi_pb2.NodeUnstageVolumeRequest(
        volume_id=volume.volume_id, staging_target_path=str(tmp_path / "staging")
    )
    with fails(grpc.StatusCode.FAILED_PRECONDITION, f"{NODE} is alive"):
        controller.controller.ControllerUnpublishVolume(unpublish)
    node.node.NodeUnstageVolume(unstage)
    wait_until(
        lambda: unless_refused(lambda: controller.controller.ControllerUnpublishVolume(unpublish)), controller.log_text
    )


def test_a_cloned_machine_gets_no_volumes(kubernetes: KubernetesAPI, namespace: str, controller: Served) -> None:
    key = base64.b64encode(public_key_of(generate_private_key())).decode()
    for name in ("first", "second"):
        spec = {"id": name, "connector": {"initiator": "iqn.2026-11.org.example:same"}, "publicKey": key, "revision": 1}
        spec["createdAt"] = {"first": "2026-11-01T00:00:00Z", "second": "2026-11-02T00:00:00Z"}[name]
        spec["updatedAt"] = "2126-11-01T00:00:00Z"
        resource = {"apiVersion": "cinderbox.io/v1", "kind": "CinderNode", "metadata": {"name": name}, "spec": spec}
        kubernetes.kubectl("create", "-n", namespace, "-f", "-", input_text=json.dumps(resource))
    volume = create(controller, "pvc-1")

    def refused() -> str:
        try:
            publish(controller, volume, "second")
        except grpc.RpcError as error:
            return str(error.details()) if error.code() is grpc.StatusCode.FAILED_PRECONDITION else ""
        return "published"

    wait_until(lambda: "node first has iqn.2026-11.org.example:same too" in refused(), refused)
    assert publish(controller, volume, "first")

    def described() -> str:
        return kubernetes.kubectl("describe", "cnode", "second", "-n", namespace)

    wait_until(lambda: "DuplicateInitiator" in described().partition("\nEvents:")[2], described)


def test_metadata_that_anyone_may_read_needs_a_key(tmp_path: Path, persistence: dict[str, Any]) -> None:
    served = Served(tmp_path, mode="controller", persistence=persistence)
    try:
        served.start(wait=False)
        assert served.wait_for_exit() == 2
        assert "sealing_keys_file" in served.log_text()
    finally:
        served.close()


def _is_known(controller: Served, volume: csi_pb2.Volume) -> bool:
    """Whether the controller knows the node, and has all kinds of records in its caches."""
    try:
        publish(controller, volume)
    except grpc.RpcError:
        return False
    identified = {"volume_id": volume.volume_id, "node_id": NODE}
    controller.controller.ControllerUnpublishVolume(csi_pb2.ControllerUnpublishVolumeRequest(**identified))
    return True


def _node_object(*, unschedulable: bool) -> dict[str, Any]:
    spec = {"unschedulable": unschedulable}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}, "spec": spec}
