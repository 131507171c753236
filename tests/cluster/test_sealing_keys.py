"""The keys that seal secrets in records are changed, as docs/kubernetes.md has it, while a pod uses a volume."""

import base64
import json

import pytest

from csi_plugin.persistence.sealing import generate_key
from tests.cluster.cluster import Cluster, claim, pod

SECRET, FILE = "cinderbox-sealing", "keys"


def restart_with(driver: Cluster, *keys: str) -> None:
    patch = json.dumps({"stringData": {FILE: "\n".join(keys) + "\n"}})
    driver.kubectl("patch", "secret", SECRET, "-p", patch)
    driver.kubectl("rollout", "restart", "deployment", "cinderbox-controller")
    driver.kubectl("rollout", "status", "deployment", "cinderbox-controller", "--timeout=120s")


def reseal(driver: Cluster) -> str:
    exec_in_pod = ("exec", "deployment/cinderbox-controller", "-c", "cinderbox", "--")
    return driver.kubectl(*exec_in_pod, "cinderbox", "reseal").strip()


@pytest.mark.timeout(240)
def test_keys_are_changed(cluster: Cluster, driver: Cluster) -> None:
    cluster.apply(claim("orders"), pod("shop", "orders"))
    cluster.wait_running("shop")
    cluster.write("shop")
    old = base64.b64decode(driver.get("secret", SECRET)["data"][FILE]).decode().strip()
    new = generate_key()

    restart_with(driver, new, old)
    assert reseal(driver) != "0 records were resealed"
    assert reseal(driver) == "0 records were resealed"
    driver.kubectl("annotate", "secret", SECRET, "cinderbox.io/allow-delete=true")
    restart_with(driver, new)
    driver.kubectl("annotate", "secret", SECRET, "cinderbox.io/allow-delete-")

    volume = cluster.volume_of("orders")
    cluster.delete("pod", "shop")
    cluster.apply(pod("again", "orders"))
    cluster.wait_running("again")
    assert cluster.exec("again", "cat /data/file") == "precious\n"
    cluster.delete("pod", "again")
    cluster.delete("pvc", "orders")
    cluster.wait_until_gone(volume)
