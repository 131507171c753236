"""The registry where metadata is in custom resources: every node writes its own CinderNode, and reads it.

The Kubernetes client takes memory that a node needs once in five minutes, so it is in a process that ends after use.
"""

import base64
import json
import subprocess
import sys
from typing import Any

from csi_plugin.protocol.errors import not_found, unavailable
from csi_plugin.protocol.node_identity import NodeIdentity

_PROGRAM = "csi_plugin.persistence.crd.cinder_node"
_SECONDS = 60


class CinderNodeClient:
    """Registers at the Kubernetes API server, with the rights of the node's own service account."""

    tells_publications = False
    """The controller seals connections there for keys that are new, and there are no others."""

    def __init__(self, *, namespace: str | None, kubeconfig: str | None) -> None:
        self._api_server = {"namespace": namespace, "kubeconfig": kubeconfig}

    def register(self, identity: NodeIdentity) -> None:
        """Write the CinderNode, which tells nothing of the plugin. Raises UNAVAILABLE with what the API server says."""
        record = {
            "id": identity.node_id,
            "connector": dict(identity.connector),
            "public_key": base64.b64encode(identity.public_key).decode(),
            "topology": dict(identity.topology),
            "max_volumes": identity.max_volumes,
        }
        self._run(register=record)

    def connection(self, node_id: str, volume_id: str) -> bytes:
        """What the controller has sealed to the key that was registered last, once it has. Raises NOT_FOUND when the
        volume is not published here, and UNAVAILABLE."""
        sealed = self._run(find={"node_id": node_id, "volume_id": volume_id})["sealed"]
        if not sealed:
            raise not_found(f"volume_id: volume {volume_id} is not published to node {node_id}")
        return base64.b64decode(sealed)

    def published(self, node_id: str) -> list[str] | None:
        """Ids of the volumes that the controller has published here, as it told a while ago; None where it has not.
        Raises UNAVAILABLE."""
        found: list[str] | None = self._run(published={"node_id": node_id})["published"]
        return found

    def record_filesystem(self, node_id: str, volume_id: str, filesystem: str) -> None:
        """Put the volume on the CinderNode's list, for the controller to take over. Raises UNAVAILABLE."""
        self._run(formatted={"node_id": node_id, "volume_id": volume_id})

    def _run(self, **request: Any) -> Any:
        try:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", _PROGRAM],
                input=json.dumps(request | self._api_server).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=False,
            )
            response = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            raise unavailable(f"the Kubernetes API server did not answer within {_SECONDS} s") from None
        except ValueError:
            raise unavailable(f"cinder_node ended with status {done.returncode} and no response") from None
        if "error" in response:
            raise unavailable(response["error"])
        return response
