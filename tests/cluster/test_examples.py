"""Every file of deploy/examples, applied as it is: only handles, which are placeholders there, are put in."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, pod
from tests.support.project import PROJECT

EXAMPLES = PROJECT / "deploy/examples"
CLASSES = ("storageclass.yaml", "volumesnapshotclass.yaml")
_HANDLE = re.compile(r"(volumeHandle|snapshotHandle): [0-9a-f-]{36}")


def apply(cluster: Cluster, file: str, *, handle: str = "") -> None:
    text = (EXAMPLES / file).read_text()
    if handle:
        text, count = _HANDLE.subn(rf"\1: {handle}", text)
        assert count == 1
    cluster.kubectl("apply", "-f", "-", input_text=text)


def delete(cluster: Cluster, *files: str) -> None:
    for file in files:
        cluster.kubectl("delete", "-f", str(EXAMPLES / file), "--ignore-not-found", "--timeout=90s")


def end(cluster: Cluster, *pods: str) -> None:
    """Pods of the examples do not listen to signals."""
    cluster.kubectl("delete", "pod", *pods, "--grace-period=1", "--wait=false")


def reader(claim_name: str) -> str:
    return f"read-{claim_name}"


def wait_read(cluster: Cluster, *claims: str) -> list[str]:
    """A pod on each claim, until it runs; what their logs of class `claim.yaml` begin with."""
    cluster.apply(*(pod(reader(name), name) for name in claims))
    for name in claims:
        cluster.wait_running(reader(name))
    return [cluster.exec(reader(name), "head -n 1 /data/log") for name in claims]


@pytest.fixture(scope="module")
def default(driver: Cluster) -> Iterator[Cluster]:
    """Namespace `default`, with the classes, and claim `data` with its writer."""
    cluster = Cluster("default")
    for file in (*CLASSES, "claim.yaml"):
        apply(cluster, file)
    cluster.wait_running("writer")
    # Each line is synced by the pod itself before the next one.
    cluster.exec("writer", "until [ $(wc -l < /data/log) -ge 2 ]; do sleep 0.1; done")
    yield cluster
    end(cluster, "--all")
    cluster.kubectl("delete", "pod", "--all", "--timeout=90s")
    volumes = [cluster.volume_of(one["metadata"]["name"]) for one in cluster.get("pvc")["items"]]
    cluster.kubectl("delete", "volumesnapshot,volumegroupsnapshot", "--all", "--timeout=90s")
    cluster.kubectl("delete", "pvc", "--all", "--timeout=90s")
    cluster.wait_until_gone(*volumes)
    delete(cluster, *CLASSES, "volumegroupsnapshotclass.yaml")


def test_all_files_have_a_test() -> None:
    text = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES.iterdir() if path.stem != "values" and f'"{path.name}"' not in text] == []


def test_backend(driver: Cluster) -> None:
    """Of an array that nobody has here: what the API server says to it."""
    said = driver.kubectl("apply", "--dry-run=server", "-f", str(EXAMPLES / "backend.yaml"))
    assert "cinderbackend.cinderbox.io/fast" in said


def test_copies(default: Cluster) -> None:
    written = default.exec("writer", "head -n 1 /data/log")
    for file in ("restore.yaml", "clone.yaml", "volumegroupsnapshotclass.yaml"):
        apply(default, file)
    default.wait("volumegroupsnapshot/shop", "jsonpath={.status.readyToUse}=true")
    assert wait_read(default, "data-restored", "data-clone") == [written, written]
    members = default.get("volumesnapshot")["items"]
    assert [one["spec"]["source"]["persistentVolumeClaimName"] for one in members] == ["data", "data"]


def test_statefulset(default: Cluster) -> None:
    apply(default, "statefulset.yaml")
    default.kubectl("rollout", "status", "statefulset/queue", "--timeout=90s")
    volumes = [default.volume_of(f"data-queue-{number}") for number in range(2)]
    default.kubectl("delete", "statefulset,service", "queue", "--wait=false")
    end(default, "queue-0", "queue-1")
    default.wait_until_gone(*volumes)


def test_block_and_ephemeral(default: Cluster) -> None:
    for file in ("block.yaml", "ephemeral.yaml"):
        apply(default, file)
    for name in ("raw", "scratch"):
        default.wait_running(name)
    default.exec("scratch", "until [ $(stat -c %s /scratch/file) = 8388608 ]; do sleep 0.1; done")
    assert default.exec("raw", "blockdev --getsize64 /dev/xvda").strip() == str(1024**3)
    end(default, "raw", "scratch")
    delete(default, "block.yaml", "ephemeral.yaml")


def test_attributes(default: Cluster, driver: Cluster) -> None:
    apply(default, "volumeattributesclass.yaml")
    default.apply(pod("tuner", "tuned"))
    default.wait_running("tuner")
    specs = driver.get("cvol", default.volume_of("tuned"))["spec"]["extraSpecs"]
    assert specs == {"example:tier": "silver"}
    default.delete("pod", "tuner")
    delete(default, "volumeattributesclass.yaml")


def test_what_exists_already(default: Cluster) -> None:
    """A volume and a snapshot that Cinderbox knows, and Kubernetes does not."""
    default.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "before"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "cinderbox",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
        pod("before", "before"),
        {
            "apiVersion": "snapshot.storage.k8s.io/v1",
            "kind": "VolumeSnapshot",
            "metadata": {"name": "before"},
            "spec": {"volumeSnapshotClassName": "cinderbox", "source": {"persistentVolumeClaimName": "before"}},
        },
    )
    default.wait_running("before")
    default.exec("before", "echo precious > /data/log && sync")
    default.wait("volumesnapshot/before", "jsonpath={.status.readyToUse}=true")
    volume = default.volume_of("before")
    content = default.get("volumesnapshot", "before")["status"]["boundVolumeSnapshotContentName"]
    snapshot = default.get("volumesnapshotcontent", content)["status"]["snapshotHandle"]
    retain = ("--type=merge", "-p", '{"spec": {"deletionPolicy": "Retain"}}')
    default.kubectl("patch", "volumesnapshotcontent", content, *retain)
    name = default.get("pvc", "before")["spec"]["volumeName"]
    default.kubectl("patch", "pv", name, "--type=merge", "-p", '{"spec": {"persistentVolumeReclaimPolicy": "Retain"}}')
    default.delete("pod", "before")
    default.delete("volumesnapshot", "before")
    default.delete("volumesnapshotcontent", content)
    default.delete("pvc", "before")
    default.delete("pv", name)

    apply(default, "static-volume.yaml", handle=volume)
    apply(default, "existing-snapshot.yaml", handle=snapshot)
    default.wait("volumesnapshot/existing", "jsonpath={.status.readyToUse}=true")
    assert wait_read(default, "adopted") == ["precious\n"]
    default.delete("pod", reader("adopted"))
    # Both examples leave what they bring in; here it is to go.
    default.kubectl(
        "patch", "volumesnapshotcontent", "existing", "--type=merge", "-p", '{"spec": {"deletionPolicy": "Delete"}}'
    )
    default.kubectl(
        "patch", "pv", "adopted", "--type=merge", "-p", '{"spec": {"persistentVolumeReclaimPolicy": "Delete"}}'
    )
    default.delete("volumesnapshot", "existing")
    default.delete("pvc", "adopted")
    default.wait_until_gone(volume, snapshot)
