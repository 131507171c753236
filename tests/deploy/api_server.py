"""kubectl as the tests of the deployment use it, against a real API server."""

import json
import subprocess
from typing import Any

from tests.kubernetes_api import BINARIES, KubernetesAPI


class ApiServer(KubernetesAPI):
    """An API server that is asked to take and to refuse things."""

    def try_kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [BINARIES / "kubectl", f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    def apply(self, manifests: str | list[dict[str, Any]], *arguments: str) -> str:
        if not isinstance(manifests, str):
            manifests = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        return self.kubectl("apply", "--server-side", "-f", "-", *arguments, input_text=manifests)

    def create(self, manifest: dict[str, Any], *arguments: str) -> str:
        return self.kubectl("create", "-f", "-", *arguments, input_text=json.dumps(manifest))

    def refusal(self, *arguments: str, stdin: str = "") -> str:
        """The message with which the server refuses what kubectl asks."""
        done = self.try_kubectl(*arguments, stdin=stdin)
        assert done.returncode != 0, f"kubectl {' '.join(arguments)} was not refused: {done.stdout}"
        return done.stderr
