"""A real kube-apiserver over its own etcd, on free ports and in its own directory: no kubelet, no controllers."""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
BINARIES = ROOT / ".tools/kubernetes/bin"
_START_SECONDS = 60


class ApiServer:
    """kubectl against one API server."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    def try_kubectl(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [BINARIES / "kubectl", "--kubeconfig", self.kubeconfig, *arguments]
        # Without HOME: kubectl keeps what it discovers there, of all servers under one address.
        environment = os.environ | {"HOME": str(self.kubeconfig.parent)}
        return subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment, check=False)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        done = self.try_kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def apply(self, manifests: str | list[dict[str, Any]], *arguments: str) -> str:
        if not isinstance(manifests, str):
            manifests = json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
        return self.kubectl("apply", "--server-side", "-f", "-", *arguments, stdin=manifests)

    def get(self, *arguments: str) -> dict[str, Any]:
        return dict(json.loads(self.kubectl("get", "-o", "json", *arguments)))

    def refusal(self, *arguments: str, stdin: str = "") -> str:
        """The message with which the server refuses what kubectl asks."""
        done = self.try_kubectl(*arguments, stdin=stdin)
        assert done.returncode != 0, f"kubectl {' '.join(arguments)} was not refused: {done.stdout}"
        return done.stderr


@contextlib.contextmanager
def running_api_server(directory: Path) -> Iterator[ApiServer]:
    """Start one, wait until it is ready, and stop it again."""
    etcd, peer, https = _free_ports(3)
    keys = directory / "service-accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", keys, "2048"], check=True, capture_output=True)
    (directory / "tokens.csv").write_text("token-of-the-admin,admin,admin,system:masters\n")
    server = ApiServer(_kubeconfig(directory, https))
    etcd_command = [
        "etcd",
        f"--data-dir={directory}/etcd",
        "--unsafe-no-fsync",
        f"--listen-client-urls=http://127.0.0.1:{etcd}",
        f"--advertise-client-urls=http://127.0.0.1:{etcd}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
    ]
    api_command = [
        "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        f"--cert-dir={directory}/certificates",
        "--bind-address=127.0.0.1",
        f"--secure-port={https}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={keys}",
        f"--service-account-signing-key-file={keys}",
        f"--token-auth-file={directory}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
    ]
    with _process(etcd_command, directory), _process(api_command, directory) as api:
        deadline = time.monotonic() + _START_SECONDS
        while server.try_kubectl("get", "--raw", "/readyz").returncode != 0:
            assert api.poll() is None and time.monotonic() < deadline, (directory / "kube-apiserver.log").read_text()
            time.sleep(0.1)  # its readiness can only be asked for
        yield server


@contextlib.contextmanager
def _process(command: list[str], directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    name, *arguments = command
    with (directory / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([BINARIES / name, *arguments], stdout=log, stderr=log, cwd=directory)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _kubeconfig(directory: Path, port: int) -> Path:
    path = directory / "kubeconfig"
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": "token-of-the-admin"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }
    path.write_text(json.dumps(content))
    return path
