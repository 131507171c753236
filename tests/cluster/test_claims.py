"""Claims of people, in a real cluster: what they ask for, they get, with their data in it."""

import json

from tests.cluster.cluster import NAMESPACE, Cluster, claim, pod, snapshot
from tests.support.polling import wait_until


def test_from_claim_to_data_to_nothing(cluster: Cluster) -> None:
    cluster.apply(claim("orders"), pod("shop", "orders"))
    cluster.wait_running("shop")
    cluster.write("shop")
    volume = cluster.volume_of("orders")

    def row() -> list[str]:
        return cluster.run("kubectl", "-n", NAMESPACE, "get", "cvol", volume, "--no-headers").split()

    node = cluster.node_of("shop")
    wait_until(lambda: node in row(), lambda: " ".join(row()))
    assert row()[:-1] == [volume, "in-use", "1Gi", "loop", "loop", node, f"{cluster.namespace}/orders"]
    cluster.delete("pod", "shop")
    cluster.apply(pod("again", "orders"))
    cluster.wait_running("again")
    assert cluster.exec("again", "cat /data/file") == "precious\n"
    cluster.delete("pod", "again")
    cluster.delete("pvc", "orders")
    cluster.wait_until_gone(volume)


def test_snapshot_restore_and_clone(cluster: Cluster) -> None:
    cluster.apply(claim("orders"), pod("shop", "orders"))
    cluster.wait_running("shop")
    cluster.write("shop", "before")
    cluster.apply(snapshot("backup", "orders"))
    cluster.wait("volumesnapshot/backup", "jsonpath={.status.readyToUse}=true")
    cluster.write("shop", "after")
    source = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "backup"}
    cluster.apply(
        claim("restored", gib=2, dataSource=source),  # larger: the filesystem grows
        claim("cloned", dataSource={"kind": "PersistentVolumeClaim", "name": "orders"}),
        pod("restorer", "restored"),
        pod("cloner", "cloned"),
    )
    for name in ("restorer", "cloner"):
        cluster.wait_running(name)
    assert cluster.exec("restorer", "cat /data/file") == "before\n"
    assert cluster.exec("cloner", "cat /data/file") == "after\n"
    assert int(cluster.exec("restorer", "df -m /data | tail -1 | awk '{print $2}'")) > 1500
    volumes = [cluster.volume_of(name) for name in ("orders", "restored", "cloned")]
    cluster.delete("pod", "shop", "restorer", "cloner")
    cluster.delete("volumesnapshot", "backup")
    cluster.delete("pvc", "orders", "restored", "cloned")
    cluster.wait_until_gone(*volumes)


def test_raw_block(cluster: Cluster) -> None:
    cluster.apply(claim("disk", block=True), pod("database", "disk", block=True))
    cluster.wait_running("database")
    cluster.exec("database", "printf precious | dd of=/dev/block bs=8 seek=1000 conv=notrunc && sync")
    cluster.delete("pod", "database")
    cluster.apply(pod("again", "disk", block=True))
    cluster.wait_running("again")
    assert cluster.exec("again", "dd if=/dev/block bs=8 skip=1000 count=1 2>/dev/null") == "precious"
    cluster.delete("pod", "again")


def test_block_of_several_pods(cluster: Cluster) -> None:
    """On one node: the nodes here have one kernel, where a file has one loop device and one owner of it."""
    cluster.apply(claim("shared", block=True, mode="ReadWriteMany"))
    cluster.apply(pod("one", "shared", block=True, node="node1"), pod("two", "shared", block=True, node="node1"))
    for name in ("one", "two"):
        cluster.wait_running(name)
    cluster.exec("one", "printf together | dd of=/dev/block bs=8 conv=notrunc && sync")
    assert cluster.exec("two", "head -c 8 /dev/block") == "together"
    cluster.delete("pod", "one", "two")


def test_online_expansion(cluster: Cluster) -> None:
    """Of a device, and of a mounted filesystem: XFS, as growing ext4 takes a capability that machines may lack."""
    cluster.apply(
        claim("disk", block=True),
        pod("database", "disk", block=True),
        claim("orders", storageClassName="loop-xfs"),
        pod("shop", "orders"),
    )
    for name in ("database", "shop"):
        cluster.wait_running(name)
    cluster.write("shop")
    patch = json.dumps({"spec": {"resources": {"requests": {"storage": "2Gi"}}}})
    for name in ("disk", "orders"):
        cluster.kubectl("patch", "pvc", name, "-p", patch)
    for name in ("disk", "orders"):
        cluster.wait(f"pvc/{name}", "jsonpath={.status.capacity.storage}=2Gi")

    def size() -> str:
        return cluster.exec("database", "blockdev --getsize64 /dev/block").strip()

    wait_until(lambda: size() == str(2 * 1024**3), size)
    assert int(cluster.exec("shop", "df -m /data | tail -1 | awk '{print $2}'")) > 1500
    assert cluster.exec("shop", "cat /data/file") == "precious\n"
    cluster.delete("pod", "database", "shop")


def test_one_pod_alone(cluster: Cluster) -> None:
    cluster.apply(claim("mine", mode="ReadWriteOncePod"), pod("first", "mine"))
    cluster.wait_running("first")
    cluster.apply(pod("second", "mine"))
    cluster.wait("pod/second", "condition=PodScheduled=False")
    cluster.delete("pod", "first")
    cluster.wait_running("second")
    cluster.delete("pod", "second")


def test_ephemeral_volume(cluster: Cluster) -> None:
    template = {"spec": claim("unused")["spec"]}
    ephemeral = pod("scratch", "unused")
    ephemeral["spec"]["volumes"] = [{"name": "data", "ephemeral": {"volumeClaimTemplate": template}}]
    cluster.apply(ephemeral)
    cluster.wait_running("scratch")
    cluster.write("scratch")
    volume = cluster.volume_of("scratch-data")
    cluster.delete("pod", "scratch")
    cluster.wait_until_gone(volume)


STATS = """
import sys, grpc
from csi_plugin.protocol import csi_pb2, csi_pb2_grpc
node = csi_pb2_grpc.NodeStub(grpc.insecure_channel("unix:///csi/csi.sock"))
request = csi_pb2.NodeGetVolumeStatsRequest(volume_id=sys.argv[1], volume_path=sys.argv[2])
print(max(usage.total for usage in node.NodeGetVolumeStats(request).usage))
"""


def test_names_that_a_pod_gives_its_folders_are_in_nobody_s_way(cluster: Cluster, driver: Cluster) -> None:
    """They are in the mount table of its node, as they are: what separates lines elsewhere, and what is no text."""
    odd = pod("odd", "odd", node="node1")
    odd["spec"]["containers"][0]["volumeMounts"] += [
        {"name": "data", "mountPath": "/separators", "subPath": "a\u2028b\u0085c\u000cd"},
        {"name": "data", "mountPath": "/renamed", "subPath": "plain"},
    ]
    cluster.apply(claim("odd"), odd)
    cluster.wait_running("odd")
    cluster.exec("odd", r"""mv /data/plain "$(printf '/data/\377\376')" && echo precious > /renamed/file""")
    table = cluster.on_node("node1", "od -An -c -v /proc/self/mountinfo | tr -d ' \\n'")
    assert r"342200250" in table and r"377376" in table
    cluster.apply(claim("orders"), pod("shop", "orders", node="node1"))
    cluster.wait_running("shop")
    cluster.write("shop")
    volume, volume_name = cluster.volume_of("orders"), cluster.get("pvc", "orders")["spec"]["volumeName"]
    uid = cluster.get("pod", "shop")["metadata"]["uid"]
    path = f"/var/lib/kubelet/pods/{uid}/volumes/kubernetes.io~csi/{volume_name}/mount"
    selector = ("-l", "app.kubernetes.io/component=node", "--field-selector", "spec.nodeName=node1")
    node_pod = driver.kubectl("get", "pod", *selector, "-o", "name").strip()
    total = driver.kubectl("exec", node_pod, "-c", "cinderbox", "--", "python3", "-c", STATS, volume, path)
    assert int(total) > 500 * 1024**2
    cluster.delete("pod", "shop")
    cluster.delete("pvc", "orders")
    cluster.wait_until_gone(volume)
    assert cluster.exec("odd", "cat /renamed/file") == "precious\n"
    volume = cluster.volume_of("odd")
    cluster.delete("pod", "odd")
    cluster.delete("pvc", "odd")
    cluster.wait_until_gone(volume)


def test_records_are_no_way_to_delete_data(cluster: Cluster) -> None:
    cluster.apply(claim("orders"), pod("shop", "orders"))
    cluster.wait_running("shop")
    cluster.write("shop")
    volume = cluster.volume_of("orders")

    def state() -> str:
        return str(cluster.records("cvol")[0].get("status", {}).get("state"))

    wait_until(lambda: state() == "in-use", state)

    refused = cluster.run("kubectl", "-n", NAMESPACE, "delete", "cvol", volume, "--wait=false", check=False)
    assert "delete its PersistentVolumeClaim" in refused
    patch = json.dumps({"spec": {"size": 5}})
    refused = cluster.run("kubectl", "-n", NAMESPACE, "patch", "cvol", volume, "--type=merge", "-p", patch, check=False)
    assert "PersistentVolumeClaim" in refused
    cluster.run("kubectl", "-n", NAMESPACE, "annotate", "cvol", volume, "cinderbox.io/allow-delete=true")
    refused = cluster.run("kubectl", "-n", NAMESPACE, "delete", "cvol", volume, "--wait=false", check=False)
    assert "in use" in refused
    assert cluster.exec("shop", "cat /data/file") == "precious\n"
    cluster.delete("pod", "shop")
