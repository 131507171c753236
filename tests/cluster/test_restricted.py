"""The restricted profile in a namespace of Pod Security level `restricted`: no root, no privileges, two replicas."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, Object, claim
from tests.cluster.releases import SIDECARS, release
from tests.support.polling import wait_until

NAME = "restricted"
DRIVER = Path(__file__).with_name("remote_array.py")
VALUES: Object = {
    "driverName": f"{NAME}.example",
    "backends": [{"name": "array", "driver": "remote_array.RemoteArrayDriver"}],
    "controller": {
        "extraEnv": [{"name": "PYTHONPATH", "value": "/drivers"}],
        "extraVolumes": [{"name": "drivers", "configMap": {"name": "drivers"}}],
        "extraVolumeMounts": [{"name": "drivers", "mountPath": "/drivers"}],
    },
    "node": {"hostMounts": [], "http": {"port": 9829}},
    "sidecars": SIDECARS,
    "storageClasses": [{"name": NAME, "volumeBindingMode": "Immediate"}],
}


@pytest.fixture(scope="module")
def restricted(driver: Cluster) -> Iterator[Cluster]:
    with release(NAME, VALUES, level="restricted", wait=False) as cluster:
        cluster.kubectl("create", "configmap", "drivers", f"--from-file={DRIVER}")
        cluster.wait(f"deployment/{NAME}-cinderbox-controller", "condition=Available")
        wait_until(lambda: len(controllers(cluster)) == 2, cluster.events, timeout=90)
        yield cluster


def controllers(cluster: Cluster) -> list[str]:
    """The replicas that are ready."""
    pods = cluster.get("pods", labels="app.kubernetes.io/component=controller")["items"]
    ready = [
        one["metadata"]["name"]
        for one in pods
        for condition in one["status"].get("conditions", [])
        if (condition["type"], condition["status"]) == ("Ready", "True") and "deletionTimestamp" not in one["metadata"]
    ]
    return sorted(ready)


def leader(cluster: Cluster) -> str:
    return str(cluster.get("lease", "cinderbox-controller")["spec"]["holderIdentity"])


def test_processes_have_no_privileges(restricted: Cluster) -> None:
    for name in controllers(restricted):
        status = restricted.kubectl("exec", name, "-c", "cinderbox", "--", "cat", "/proc/1/status")
        said = {line.split(":")[0]: line.split(":")[1].split() for line in status.splitlines()}
        assert (said["Uid"], said["Gid"]) == (["65532"] * 4, ["65532"] * 4)
        assert {name: int(said[name][0], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
            "CapPrm": 0,
            "CapEff": 0,
            "CapBnd": 0,
            "CapAmb": 0,
        }
        assert said["NoNewPrivs"] == ["1"]
        refused = restricted.kubectl("exec", name, "-c", "cinderbox", "--", "touch", "/opt/file", check=False)
        assert "Read-only file system" in refused
    # Nodes need more, and say so where a namespace does not allow it.
    wait_until(lambda: 'violates PodSecurity "restricted' in restricted.events(), restricted.events)


def test_claims_are_served_by_the_other_replica_when_the_leader_dies(restricted: Cluster, cluster: Cluster) -> None:
    cluster.apply(claim("first", storageClassName=NAME))
    cluster.wait("pvc/first", "jsonpath={.status.phase}=Bound")
    was = leader(restricted)
    (active,) = [name for name in controllers(restricted) if name in was]
    restricted.kubectl("delete", "pod", active, "--force", "--grace-period=0")
    # Its process may live for a moment after the pod's object has gone, and serve.
    wait_until(lambda: leader(restricted) not in ("", "None", was), restricted.events, timeout=60)
    cluster.apply(claim("second", storageClassName=NAME))
    cluster.wait("pvc/second", "jsonpath={.status.phase}=Bound", seconds=60)
    cluster.delete("pvc", "first", "second")
    wait_until(lambda: not restricted.get("cvol")["items"], restricted.events, timeout=90)
