"""The registry where metadata is in custom resources: every node writes its own CinderNode, and reads it."""

import base64
import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from csi_plugin.protocol.errors import not_found, unavailable

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
        self._run(register=record)

    def connection(self, node_id: str, volume_id: str) -> bytes:
        """What the controller has sealed to the key that was registered last, once it has. Raises NOT_FOUND when the
        volume is not published here, and UNAVAILABLE."""
        sealed = self._run(find={"node_id": node_id, "volume_id": volume_id})["sealed"]
        if not sealed:
            raise not_found(f"volume_id: volume {volume_id} is not published to node {node_id}")
        return base64.b64decode(sealed)

    def _run(self, **request: Any) -> Any:
        try:
            # The client takes memory that a node needs once in five minutes.
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "csi_plugin.persistence.crd.cinder_node"],
                input=json.dumps(request | self._where).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=False,
            )
            answer = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            raise unavailable(f"the Kubernetes API server did not answer within {_SECONDS} s") from None
        except ValueError:
            raise unavailable(f"own_node ended with status {done.returncode} and no answer") from None
        if "error" in answer:
            raise unavailable(answer["error"])
        return answer
