"""The registry of a cluster whose metadata is in custom resources: every node writes its own CinderNode."""

import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from csi_plugin.protocol.errors import failed_precondition, unavailable

_SECONDS = 60


class OwnResource:
    """Registers at the Kubernetes API server, with the rights of the node's own service account."""

    def __init__(self, *, namespace: str | None, kubeconfig: str | None) -> None:
        self._where = {"namespace": namespace, "kubeconfig": kubeconfig}

    def register(
        self,
        node_id: str,
        *,
        connector: Mapping[str, Any],
        public_key: bytes,
        topology: Mapping[str, str],
        max_volumes: int,
    ) -> None:
        """Write the CinderNode. Raises UNAVAILABLE with what the API server says."""
        record = {
            "id": node_id,
            "connector": dict(connector),
            "public_key": base64.b64encode(public_key).decode(),
            "topology": dict(topology),
            "max_volumes": max_volumes,
        }
        try:
            # The client takes memory that a node needs once in five minutes.
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "csi_plugin.persistence.crd.own_node"],
                input=json.dumps(record | self._where).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise unavailable(f"the Kubernetes API server did not answer within {_SECONDS} s") from None
        if done.stdout or done.returncode:
            raise unavailable(done.stdout.decode(errors="replace").strip() or f"exit status {done.returncode}")

    def connection(self, node_id: str, volume_id: str) -> bytes:
        """Nodes read no connections here: what they need came sealed with the call, to the key that they had then."""
        raise failed_precondition(
            f"volume_id: what volume {volume_id} was published with is sealed to a key that node {node_id} has lost; "
            "delete the pods that use it there, and it is published anew"
        )
