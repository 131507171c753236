"""kubectl as the tests of the deployment use it, against a real API server."""

import json
import subprocess
from typing import Any

from csi_plugin.persistence.crd.sealing_secret import read_or_create_keys
from tests.deploy.chart import render
from tests.support.kubernetes_api import BINARIES, KubernetesAPI
from tests.support.polling import wait_until


class ApiServer(KubernetesAPI):
    """An API server that is asked to take and to refuse things."""

    def try_kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [
            BINARIES / "kubectl",
            f"--kubeconfig={self.kubeconfig}",
            f"--cache-dir={self.directory}/kubectl",
            *arguments,
        ]
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

    def install(self, values: dict[str, Any], *, namespace: str) -> None:
        """The chart as release `box` in a new namespace; waits until its admission policies are in force."""
        self.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}])
        self.apply(render(values, "--skip-tests", namespace=namespace))
        # As the controller's pod does it before it serves.
        read_or_create_keys(
            "box-cinderbox-sealing", "keys", namespace=namespace, kubeconfig=str(self.write_kubeconfig())
        )
        probe = {"apiVersion": "cinderbox.io/v1", "kind": "CinderKeyValue", "spec": {"id": "probe"}}
        self.create(probe | {"metadata": {"name": "probe", "namespace": namespace}})

        def are_in_force() -> bool:
            names = ("cinderkeyvalues/probe", "secrets/box-cinderbox-sealing")
            deletions = [self.try_kubectl("delete", name, "-n", namespace, "--dry-run=server") for name in names]
            return all(deletion.returncode != 0 for deletion in deletions)

        wait_until(are_in_force, lambda: "the policies are not in force", timeout=60)
        controller = f"--as=system:serviceaccount:{namespace}:box-cinderbox-controller"
        self.kubectl("delete", "cinderkeyvalues/probe", "-n", namespace, controller)
