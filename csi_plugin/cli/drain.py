"""Before a node's pod ends: while the node is drained, its volumes come first."""

import time
from pathlib import Path

from csi_plugin.node.volume_state import VolumeStates
from csi_plugin.persistence.crd.api import ResourceAPI

_POLL_SECONDS = 0.5


def is_drained(node_name: str, *, namespace: str | None, kubeconfig: str | None) -> bool:
    """Whether the Kubernetes node takes no new pods, as one does that is drained.

    Raises PersistenceError and InvalidPersistence when the API server cannot say.
    """
    api = ResourceAPI("", "v1", namespace=namespace, kubeconfig=kubeconfig)
    try:
        node = api.read(f"/api/v1/nodes/{node_name}")
    finally:
        api.close()
    return bool(node["spec"].get("unschedulable"))


def wait_until_unstaged(volumes_dir: Path) -> None:
    """Wait until no volume is staged on this node: kubelet needs the driver for that, and detaching comes after it.

    Has no end of its own: who calls it ends it when it takes too long.
    """
    states = VolumeStates(volumes_dir)
    while any(True for _ in states.all()):
        time.sleep(_POLL_SECONDS)
