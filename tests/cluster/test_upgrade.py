"""From the previous chart to this one, while a pod writes."""

import hashlib
from pathlib import Path

import pytest

from tests.cluster.cluster import CHART, Cluster, claim, pod
from tests.cluster.releases import helm_install, host_values, remove
from tests.support.polling import wait_until

NAME = "upgraded"
PREVIOUS = Path(__file__).with_name("cinderbox-0.1.0.tgz")
"""The chart as `helm package` made it of the previous version."""
# A log whose every line ends with the checksum of its number and of the line before.
WRITE = """
previous=start; number=0
while true; do
  number=$((number + 1)); previous=$(echo "$number $previous" | sha256sum | cut -d " " -f 1)
  echo "$number $previous" >> /data/log; sync /data/log; sleep 0.05
done
"""


def checked_lines(text: str) -> int:
    """How many lines the log has; raises when one is missing or damaged."""
    previous = "start"
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        previous = hashlib.sha256(f"{number} {previous}\n".encode()).hexdigest()
        assert line == f"{number} {previous}"
    return len(lines)


@pytest.mark.timeout(240)
def test_upgrade_while_a_pod_writes(driver: Cluster, cluster: Cluster) -> None:
    release = Cluster(NAME)
    values = host_values(NAME, 3)
    release.run("kubectl", "create", "namespace", NAME)
    (backend,) = values["backends"]
    # It had the options beside the name.
    previous = {"name": backend["name"], "driver": backend["driver"], **backend["options"]}
    helm_install(NAME, values | {"backends": [previous]}, "--wait", "--timeout=120s", chart=PREVIOUS)
    assert set(charts(release)) == {("controller", "cinderbox-0.1.0"), ("node", "cinderbox-0.1.0")}
    writer = pod("writer", "orders")
    writer["spec"]["containers"][0]["command"] = ["sh", "-c", WRITE]
    cluster.apply(
        claim("orders", storageClassName=NAME), writer, claim("kept", storageClassName=NAME), pod("old", "kept")
    )
    for name in ("writer", "old"):
        cluster.wait_running(name)
    cluster.write("old")
    cluster.delete("pod", "old")

    release.run("kubectl", "apply", "--server-side", "--force-conflicts", "-f", f"{CHART}/crds/")
    before = checked_lines(cluster.exec("writer", "cat /data/log"))
    helm_install(NAME, values, "--wait", "--timeout=120s")
    release.kubectl("rollout", "status", "daemonset", "--timeout=90s")
    wait_until(
        lambda: not any(chart == "cinderbox-0.1.0" for _, chart in charts(release)), lambda: str(charts(release))
    )
    assert checked_lines(cluster.exec("writer", "cat /data/log")) > before
    assert cluster.get("pod", "writer")["status"]["containerStatuses"][0]["restartCount"] == 0

    # The new version serves what the old one made, and takes over what it mounted.
    cluster.apply(pod("new", "kept"), claim("made", storageClassName=NAME), pod("maker", "made"))
    for name in ("new", "maker"):
        cluster.wait_running(name)
    assert cluster.exec("new", "cat /data/file") == "precious\n"
    assert checked_lines(cluster.exec("writer", "cat /data/log")) > before
    cluster.kubectl("delete", "pod", "--all")
    cluster.kubectl("delete", "pvc", "--all")
    wait_until(lambda: not release.get("cvol")["items"], release.events, timeout=90)
    remove(NAME)


def charts(release: Cluster) -> list[tuple[str, str]]:
    """Of each pod of the release its part, and the chart that made it. Pods that end are there a while yet."""
    return [
        (one["metadata"]["labels"]["app.kubernetes.io/component"], one["metadata"]["labels"]["helm.sh/chart"])
        for one in release.get("pods", labels="app.kubernetes.io/component")["items"]
    ]
