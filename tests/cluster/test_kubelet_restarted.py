"""kubelet ends and comes back, in a real cluster: pods keep their volumes, and the driver is registered again."""

import pytest

from tests.cluster.cluster import Cluster, claim, pod, task
from tests.support.polling import wait_until

NODE = "node2"
_WRITING = "while true; do echo line >> /data/log; sync; sleep 0.2; done"


@pytest.mark.timeout(240)
def test_pods_go_on_and_new_ones_come(cluster: Cluster) -> None:
    writer = pod("writer", "log", node=NODE)
    writer["spec"]["containers"][0]["command"] = ["sh", "-c", f"trap exit TERM; ({_WRITING}) & wait"]
    cluster.apply(claim("log"), writer, claim("other"), claim("late"))
    cluster.wait_running("writer")

    cluster.run("stop", f"{NODE}/kubelet")
    before = _lines(cluster)
    wait_until(lambda: _lines(cluster) > before, lambda: "the writer stands still without kubelet")
    # Asked for while nobody is there to serve it.
    cluster.apply(task("reader", "other", "echo something > /data/file", node=NODE))
    cluster.run("start", f"{NODE}/kubelet")

    cluster.wait("pod/reader", "jsonpath={.status.phase}=Succeeded")
    cluster.apply(task("second", "late", "echo something > /data/file", node=NODE))
    cluster.wait("pod/second", "jsonpath={.status.phase}=Succeeded")
    before = _lines(cluster)
    wait_until(lambda: _lines(cluster) > before, lambda: "the writer stands still after kubelet's return")
    assert cluster.get("pod", "writer")["status"]["containerStatuses"][0]["restartCount"] == 0

    volumes = [cluster.volume_of(name) for name in ("log", "other", "late")]
    cluster.delete("pod", "writer", "reader", "second")
    cluster.delete("pvc", "log", "other", "late")
    cluster.wait_until_nothing_is_left(*volumes)


def _lines(cluster: Cluster) -> int:
    """How much the writer has written, as its volume says it on the node."""
    mounted = f"/var/lib/kubelet/pods/{cluster.get('pod', 'writer')['metadata']['uid']}/volumes/*/*/mount/log"
    return int(cluster.on_node(NODE, f"cat {mounted} | wc -l"))
