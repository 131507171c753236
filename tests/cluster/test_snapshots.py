"""Snapshots in a real cluster, beyond those of one claim: groups, and snapshots that Kubernetes has to be told of."""

from tests.cluster.cluster import DRIVER_NAME, NAMESPACE, Cluster, Object, claim, pod, snapshot
from tests.support.polling import wait_until

SNAPSHOT = {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot"}


def group_snapshot(name: str, label: str) -> list[Object]:
    api = "groupsnapshot.storage.k8s.io/v1"
    return [
        {
            "apiVersion": api,
            "kind": "VolumeGroupSnapshotClass",
            "metadata": {"name": "loop"},
            "driver": DRIVER_NAME,
            "deletionPolicy": "Delete",
        },
        {
            "apiVersion": api,
            "kind": "VolumeGroupSnapshot",
            "metadata": {"name": name},
            "spec": {
                "volumeGroupSnapshotClassName": "loop",
                "source": {"selector": {"matchLabels": {"app": label}}},
            },
        },
    ]


def imported(name: str, content: str, handle: str, namespace: str) -> list[Object]:
    """A VolumeSnapshot of what the storage has, deleted with it."""
    return [
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshotContent",
            "metadata": {"name": content},
            "spec": {
                "driver": DRIVER_NAME,
                "deletionPolicy": "Delete",
                "source": {"snapshotHandle": handle},
                "volumeSnapshotRef": {"name": name, "namespace": namespace},
            },
        },
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshot",
            "metadata": {"name": name},
            "spec": {"source": {"volumeSnapshotContentName": content}},
        },
    ]


def test_group_snapshot(cluster: Cluster) -> None:
    names = ("orders", "journal")
    for name in names:
        labelled = claim(name)
        labelled["metadata"]["labels"] = {"app": "shop"}
        cluster.apply(labelled, pod(name, name))
    cluster.apply(claim("elsewhere"))
    for name in names:
        cluster.wait_running(name)
        cluster.write(name, f"{name}-before")
    cluster.apply(*group_snapshot("both", "shop"))
    cluster.wait("volumegroupsnapshot/both", "jsonpath={.status.readyToUse}=true")
    for name in names:
        cluster.write(name, f"{name}-after")

    volumes = {cluster.volume_of(name): name for name in names}
    members = {
        one["spec"]["source"]["persistentVolumeClaimName"]: one["metadata"]["name"]
        for one in cluster.get("volumesnapshot")["items"]
    }
    assert set(members) == set(names)
    snapshots = [one["spec"] for one in cluster.all_records("csnap") if one["spec"]["volumeId"] in volumes]
    assert sorted(volumes[one["volumeId"]] for one in snapshots) == sorted(names)
    (group,) = {one["groupSnapshotId"] for one in snapshots}
    assert group in [one["spec"]["id"] for one in cluster.all_records("cgsnap")]

    for name in names:
        cluster.apply(
            claim(f"{name}-restored", dataSource=SNAPSHOT | {"name": members[name]}),
            pod(f"{name}-restored", f"{name}-restored"),
        )
    for name in names:
        cluster.wait_running(f"{name}-restored")
        assert cluster.exec(f"{name}-restored", "cat /data/file") == f"{name}-before\n"
    identifiers = [cluster.volume_of(name) for name in (*names, *(f"{name}-restored" for name in names))]
    cluster.kubectl("delete", "pod", "--all")
    cluster.delete("volumegroupsnapshot", "both")
    cluster.kubectl("delete", "pvc", "--all")
    cluster.wait_until_gone(*identifiers)


def test_snapshot_that_outlives_its_namespace_is_restored_in_another(cluster: Cluster, other: Cluster) -> None:
    """What a backup tool does: it keeps the handle, and brings the snapshot back under another name."""
    cluster.apply(claim("orders"), pod("shop", "orders"))
    cluster.wait_running("shop")
    cluster.write("shop")
    cluster.apply(snapshot("backup", "orders"))
    cluster.wait("volumesnapshot/backup", "jsonpath={.status.readyToUse}=true")
    content = cluster.get("volumesnapshot", "backup")["status"]["boundVolumeSnapshotContentName"]
    handle = cluster.get("volumesnapshotcontent", content)["status"]["snapshotHandle"]
    cluster.kubectl(
        *("patch", "volumesnapshotcontent", content, "--type=merge"), "-p", '{"spec": {"deletionPolicy": "Retain"}}'
    )
    cluster.delete("pod", "shop")
    cluster.delete("volumesnapshot", "backup")
    cluster.delete("volumesnapshotcontent", content)
    cluster.delete("pvc", "orders")

    other.apply(
        *imported("brought-back", f"restored-{other.namespace}", handle, other.namespace),
        claim("restored", dataSource=SNAPSHOT | {"name": "brought-back"}),
        pod("reader", "restored"),
    )
    other.wait_running("reader")
    assert other.exec("reader", "cat /data/file") == "precious\n"
    volume = other.volume_of("restored")
    other.delete("pod", "reader")
    other.delete("volumesnapshot", "brought-back")
    other.delete("pvc", "restored")
    other.wait_until_gone(volume, handle)


def test_snapshots_of_a_group_whose_object_was_given_up_leave_nothing(cluster: Cluster) -> None:
    """Velero, for one: it gives up the group object, keeps the handles, and deletes the snapshots one by one."""
    names = ("orders", "journal")
    for name in names:
        labelled = claim(name)
        labelled["metadata"]["labels"] = {"app": "shop"}
        cluster.apply(labelled)
    for name in names:
        cluster.wait(f"pvc/{name}", "jsonpath={.status.phase}=Bound")
    volumes = [cluster.volume_of(name) for name in names]
    cluster.apply(*group_snapshot("both", "shop"))
    cluster.wait("volumegroupsnapshot/both", "jsonpath={.status.readyToUse}=true")
    group_content = cluster.get("volumegroupsnapshot", "both")["status"]["boundVolumeGroupSnapshotContentName"]
    retain = ("--type=merge", "-p", '{"spec": {"deletionPolicy": "Retain"}}')
    contents = [one["status"]["boundVolumeSnapshotContentName"] for one in cluster.get("volumesnapshot")["items"]]
    handles = [cluster.get("volumesnapshotcontent", one)["status"]["snapshotHandle"] for one in contents]
    for one in contents:
        cluster.kubectl("patch", "volumesnapshotcontent", one, *retain)
    cluster.kubectl("patch", "volumegroupsnapshotcontent", group_content, *retain)
    cluster.delete("volumegroupsnapshot", "both")
    cluster.kubectl("delete", "volumesnapshot", "--all", "--timeout=90s")
    cluster.kubectl("delete", "volumegroupsnapshotcontent", group_content, "--ignore-not-found", "--timeout=90s")
    cluster.kubectl("delete", "volumesnapshotcontent", *contents, "--ignore-not-found", "--timeout=90s")
    listed = cluster.run(
        *("kubectl", "-n", NAMESPACE, "exec", "deploy/cinderbox-controller", "-c", "cinderbox", "--"),
        *("cinderbox", "snapshots", "orphans"),
    )
    assert all(handle in listed for handle in handles)

    for number, handle in enumerate(handles):
        cluster.apply(*imported(f"kept-{number}", f"{cluster.namespace}-{number}", handle, cluster.namespace))
        cluster.wait(f"volumesnapshot/kept-{number}", "jsonpath={.status.readyToUse}=true")
    for number in range(len(handles)):
        cluster.delete("volumesnapshot", f"kept-{number}")

    def left() -> list[str]:
        return [one for one in handles if any(one in file for file in cluster.files())]

    wait_until(lambda: not left(), lambda: f"{left()}\n{cluster.events()}", timeout=90)
    assert not {one["spec"]["id"] for one in cluster.all_records("csnap")} & set(handles)
    cluster.kubectl("delete", "pvc", "--all")
    cluster.wait_until_gone(*volumes)
