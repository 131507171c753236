"""etcd restored from a snapshot, in a real cluster: what the driver made since then, it does not know any more."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import VOLUMES, Cluster, claim, pod, task
from tests.support.polling import wait_until

_SUCCEEDED = "jsonpath={.status.phase}=Succeeded"


@pytest.fixture
def snapshot(cluster: Cluster) -> Iterator[Path]:
    """Where a snapshot of etcd goes: into the cluster's own directory, which goes with it."""
    file = cluster.state / "etcd.snapshot"
    yield file
    file.unlink(missing_ok=True)


@pytest.mark.timeout(400)
def test_snapshot_from_before_and_in_the_middle_of_creates(cluster: Cluster, driver: Cluster, snapshot: Path) -> None:
    """Of a claim that was bound before, of one that was being made, and of one that came later: no data is lost."""
    cluster.apply(claim("before"), pod("before", "before"))
    cluster.wait_running("before")
    cluster.exec("before", "echo precious > /data/file && sync")
    # A copy that takes a while, of a volume that is written to meanwhile, is made again and again for ten seconds.
    busy = pod("busy", "busy")
    busy["spec"]["containers"][0]["command"] = ["sh", "-c", _BUSY]
    cluster.apply(claim("busy"), busy)
    cluster.wait_running("busy")
    cluster.exec("busy", "until [ -e /data/log ]; do sleep 0.1; done")
    cluster.apply(claim("middle", dataSource={"kind": "PersistentVolumeClaim", "name": "busy"}))

    def caught() -> bool:
        before = _being_created(driver)
        take_snapshot(cluster, snapshot)
        return bool(before & _being_created(driver))

    wait_until(caught, lambda: driver.kubectl("get", "cvol"), timeout=60)

    cluster.delete("pod", "busy")
    cluster.wait("pvc/middle", "jsonpath={.status.phase}=Bound")
    cluster.apply(claim("later"))
    for name in ("middle", "later"):
        cluster.apply(task(name, name, f"echo {name} > /data/file && sync"))
        cluster.wait(f"pod/{name}", _SUCCEEDED)
    cluster.delete("pod", "middle", "later")
    volumes = {name: cluster.volume_of(name) for name in ("before", "busy", "middle", "later")}
    wait_until(lambda: len(cluster.attachments()) == 1, lambda: cluster.attachments(), timeout=60)

    restore(cluster, snapshot)
    # The provisioner too: its caches come back one by one, and while it still has the old volume of a claim it passes
    # over the claim. It may have ended by itself, for its lease. The controller goes on, and knows what it has made.
    cluster.run("enter", "sh", "-c", "pkill --exact csi-provisioner || true")
    cluster.delete("pod", "busy")  # it is back
    cluster.wait("pvc/middle", "jsonpath={.status.phase}=Bound")
    assert cluster.exec("before", "cat /data/file") == "precious\n"
    assert "not found" in cluster.kubectl("get", "pvc", "later", check=False)
    again = cluster.volume_of("middle")
    assert again != volumes["middle"], "an interrupted creation is not trusted"
    for name in ("middle", "later"):
        assert text_on_storage(cluster, volumes[name], name), f"the data of {name} was destroyed"
    wait_until(lambda: "held" in _leftovers(driver).get(volumes["middle"], ""), lambda: _leftovers(driver), timeout=90)

    cluster.kubectl("delete", "pod", "--all", "--timeout=90s")
    cluster.kubectl("delete", "pvc", "--all", "--timeout=90s")
    # A person has decided: the objects are of no use any more.
    driver.exec("deploy/cinderbox-controller", f"cinderbox volumes forget --yes {volumes['middle']}")
    for name in ("middle", "later"):
        cluster.run("enter", "rm", str(VOLUMES / f"volume-{volumes[name]}"))
    # As the documentation asks for: records that only the backup has are looked at when a controller starts.
    driver.kubectl("rollout", "restart", "deployment/cinderbox-controller")
    cluster.wait_until_nothing_is_left(*volumes.values(), again)


_BUSY = """
trap exit TERM
dd if=/dev/zero of=/data/large bs=1M count=400 conv=fsync
(while true; do echo line > /data/log; fsync /data/log; sleep 0.05; done) & wait
"""


def _leftovers(driver: Cluster) -> dict[str, str]:
    """Conditions by id, as a person gets them in the controller's pod."""
    listed = driver.exec("deploy/cinderbox-controller", "cinderbox volumes leftovers --output json")
    return {one["id"]: one["condition"] for one in json.loads(listed)}


def _being_created(driver: Cluster) -> set[str]:
    return {one["spec"]["id"] for one in driver.get("cvol")["items"] if one["spec"]["intent"]["phase"] == "creating"}


_SNAPSHOT = """
import base64, json, sys, urllib.request
with open(sys.argv[1], "wb") as file:
    for line in urllib.request.urlopen("http://127.0.0.1:2379/v3/maintenance/snapshot", b"{}"):
        file.write(base64.b64decode(json.loads(line)["result"].get("blob", "")))
"""


def take_snapshot(cluster: Cluster, file: Path) -> None:
    """As `etcdctl snapshot save` does, through etcd's gateway."""
    cluster.run("enter", sys.executable, "-c", _SNAPSHOT, str(file))


def restore(cluster: Cluster, file: Path) -> None:
    """The procedure of etcd's and Kubernetes' manuals: revisions go on behind all that were ever given out, and what
    has watched the old history starts again."""
    parts = ("kube-controller-manager", "kube-scheduler", "kube-apiserver", "etcd")
    for part in parts:
        cluster.run("stop", part)
    data = cluster.state / "memory/etcd"
    cluster.run("enter", "rm", "-rf", str(data))
    cluster.run(
        *("enter", "etcdutl", "snapshot", "restore", str(file), "--data-dir", str(data)),
        *("--bump-revision", "1000000000", "--mark-compacted"),
    )
    for part in reversed(parts):
        cluster.run("start", part)
    cluster.wait_for_api_server()


def text_on_storage(cluster: Cluster, volume: str, text: str) -> bool:
    """Whether a volume's file still has what a pod wrote."""
    return cluster.run("enter", "grep", "--count", f"^{text}$", str(VOLUMES / f"volume-{volume}")).strip() != "0"
