"""The keys that seal secrets in records are changed, as docs/kubernetes.md has it, while a pod uses a volume."""

import base64
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, claim, pod
from tests.cluster.page_commands import follow
from tests.support.pages import commands

SECRET, FILE = "cinderbox-sealing", "keys"


def keys(driver: Cluster) -> list[str]:
    return base64.b64decode(driver.get("secret", SECRET)["data"][FILE]).decode().split()


def reseal(driver: Cluster) -> str:
    exec_in_pod = ("exec", "deployment/cinderbox-controller", "-c", "cinderbox", "--")
    return driver.kubectl(*exec_in_pod, "cinderbox", "reseal").strip()


@pytest.mark.timeout(240)
def test_keys_are_changed(cluster: Cluster, driver: Cluster, tmp_path: Path) -> None:
    cluster.apply(claim("orders"), pod("shop", "orders"))
    cluster.wait_running("shop")
    cluster.write("shop")
    old = keys(driver)
    said = follow(commands("docs/kubernetes.md", "seal what there is anew, and remove the old one:"), tmp_path)
    assert "records were resealed" in said
    assert "0 records were resealed" not in said
    driver.kubectl("rollout", "status", "deployment", "cinderbox-controller", "--timeout=120s")
    assert len(keys(driver)) == 1
    assert set(keys(driver)).isdisjoint(old)
    assert reseal(driver) == "0 records were resealed"

    volume = cluster.volume_of("orders")
    cluster.delete("pod", "shop")
    cluster.apply(pod("again", "orders"))
    cluster.wait_running("again")
    assert cluster.exec("again", "cat /data/file") == "precious\n"
    cluster.delete("pod", "again")
    cluster.delete("pvc", "orders")
    cluster.wait_until_gone(volume)
