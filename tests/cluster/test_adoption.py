"""A volume that was there before Cinderbox becomes a claim's, with its data in it."""

import json

from tests.cluster.cluster import DRIVER_NAME, VOLUMES, Cluster, claim, pod
from tests.support.polling import wait_until

# An ext4 filesystem of 1 GiB with a file in it, as something else has left it on the storage.
OLD_DISK = """
truncate --size=1G {path} && mkdir /tmp/{name} && echo precious >/tmp/{name}/file
mkfs.ext4 -q -d /tmp/{name} {path} && rm -r /tmp/{name}
"""


def test_adopted_volume(cluster: Cluster, driver: Cluster) -> None:
    name = f"disk-{cluster.namespace}"
    path = VOLUMES / name
    cluster.run("enter", "bash", "-ec", OLD_DISK.format(path=path, name=name))
    cinderbox = ("exec", "deployment/cinderbox-controller", "--", "cinderbox")
    listed = json.loads(driver.kubectl(*cinderbox, "volumes", "manageable", "loop", "-o", "json"))
    (reference,) = [one["reference"] for one in listed if name in one["reference"]]
    handle = driver.kubectl(*cinderbox, "volumes", "adopt", "loop", reference, "--name", "orders").strip()
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Delete",
                "storageClassName": "loop",
                "csi": {"driver": DRIVER_NAME, "volumeHandle": handle, "fsType": "ext4"},
            },
        },
        claim("orders", volumeName=name),
        pod("shop", "orders"),
    )
    cluster.wait_running("shop")
    assert cluster.exec("shop", "cat /data/file") == "precious\n"

    def row() -> list[str]:
        return driver.kubectl("get", "cvol", handle, "--no-headers").split()

    wait_until(lambda: row()[:4] == [handle, "in-use", "1Gi", "loop"], lambda: " ".join(row()))
    cluster.delete("pod", "shop")
    cluster.delete("pvc", "orders")
    cluster.wait_until_gone(handle)
