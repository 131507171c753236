"""A real Kubernetes API server for tests, on an etcd of its own, with the definitions of our custom resources."""

import json
import os
import re
import secrets
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # eventlet leaves its own at http.server
from pathlib import Path
from typing import Any
from uuid import uuid4

import urllib3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.api_objects import APIObjects
from tests.support.network import free_ports
from tests.support.project import PROJECT

BINARIES = PROJECT / ".tools" / "kubernetes" / "bin"
DEFINITIONS = PROJECT / "deploy" / "helm" / "cinderbox" / "crds"

START_SECONDS = 120
CHANGING = ("POST", "PUT", "PATCH", "APPLY", "DELETE")


class KubernetesAPI:
    """etcd and kube-apiserver on free ports of the loopback; about 2 s to start."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._etcd_port, self._peer_port, self.port = free_ports(3)
        self._token = secrets.token_hex(16)
        self.kubeconfig = self.write_kubeconfig()
        url, authority = f"https://127.0.0.1:{self.port}", directory / "pki/apiserver.crt"
        self._objects = APIObjects(url, self._token, authority)
        self._prepare_keys()
        self._etcd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        try:
            self.start()
            self.kubectl("apply", "--server-side", "-f", str(DEFINITIONS))
            self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        except BaseException:
            self.stop()
            raise

    def start(self) -> None:
        """Start what does not run."""
        if self._etcd is None:
            client, peer = f"http://127.0.0.1:{self._etcd_port}", f"http://127.0.0.1:{self._peer_port}"
            self._etcd = self._run(
                *("etcd", "--data-dir=etcd", "--unsafe-no-fsync", f"--listen-client-urls={client}"),
                *(f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}"),
                *(f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}"),
            )
        if self._server is None:
            self._server = self._run(
                *("kube-apiserver", f"--etcd-servers=http://127.0.0.1:{self._etcd_port}", "--cert-dir=pki"),
                *("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={self.port}"),
                *("--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none"),
                "--service-account-issuer=https://kubernetes.default.svc",
                *("--service-account-key-file=sa.key", "--service-account-signing-key-file=sa.key"),
                *("--token-auth-file=tokens.csv", "--authorization-mode=Node,RBAC", "--allow-privileged=true"),
            )
        self._wait_until_ready()

    def stop_server(self) -> None:
        """Take the API server away; etcd stays."""
        _end(self._server)
        self._server = None

    def stop(self) -> None:
        self.stop_server()
        _end(self._etcd)
        self._etcd = None

    def compact(self) -> None:
        """Let etcd forget everything but what is there now."""
        etcd = f"http://127.0.0.1:{self._etcd_port}/v3/kv"
        pool = urllib3.PoolManager()
        found = pool.request("POST", f"{etcd}/range", json={"key": "eA=="}).json()
        done = pool.request(
            "POST", f"{etcd}/compaction", json={"revision": found["header"]["revision"], "physical": True}
        )
        assert done.status == 200, done.data

    def kubectl(self, *arguments: str, input_text: str | None = None, check: bool = True) -> str:
        """What kubectl prints; its error, when it fails and ``check`` is off."""
        done = subprocess.run(
            [
                BINARIES / "kubectl",
                f"--kubeconfig={self.kubeconfig}",
                f"--cache-dir={self.directory}/kubectl",
                *arguments,
            ],
            input=input_text,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        if done.returncode and check:
            raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout if not done.returncode else done.stderr

    def get(self, *arguments: str) -> Any:
        """What ``kubectl get`` finds, as JSON."""
        match arguments:
            case [kind, "-n", namespace]:
                name = ""
            case [kind, name, "-n", namespace]:
                pass
            case _:
                kind = name = namespace = ""
        kind, _, name_behind = kind.partition("/")
        found = self._objects.get(namespace, kind, name or name_behind) if kind else None
        return json.loads(self.kubectl("get", *arguments, "-o", "json")) if found is None else found

    def writes(self, subresource: str = "") -> Counter[str]:
        """How often each verb changed each kind of our resources so far, "verb kind", or only their ``status``; the
        server counts them together for all namespaces, so tests of one server run one after the other. Those that lost
        a race against another writer changed nothing, and depend on chance.
        """
        counted: Counter[str] = Counter()
        for line in self._objects.read("/metrics")[1].splitlines():
            if line.startswith("apiserver_request_total{") and 'group="cinderbox.io"' in line:
                labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
                if (labels["verb"] in CHANGING, labels["subresource"], labels["code"][0]) == (True, subresource, "2"):
                    counted[f"{labels['verb']} {labels['resource']}"] += int(float(line.rpartition(" ")[2]))
        return counted

    def new_namespace(self) -> str:
        name = f"test-{uuid4().hex[:12]}"
        self.kubectl("create", "namespace", name)
        return name

    def service_account(self, namespace: str, name: str, *extra: str) -> Path:
        """A kubeconfig of a service account, which is made if need be; ``extra`` arguments of kubectl create token."""
        self.kubectl("create", "serviceaccount", name, "-n", namespace, check=False)
        token = self.kubectl("create", "token", name, "-n", namespace, *extra).strip()
        return self.write_kubeconfig(token, name=f"{namespace}-{name}-{uuid4().hex[:6]}")

    def write_kubeconfig(self, token: str = "", name: str = "admin", url: str = "") -> Path:
        """A kubeconfig of a token (by default, the admin's), for the server or a URL that leads there."""
        path = self.directory / f"{name}.kubeconfig"
        server: dict[str, str] = {"server": url or f"https://127.0.0.1:{self.port}"}
        if server["server"].startswith("https:"):
            server["certificate-authority"] = str(self.directory / "pki" / "apiserver.crt")
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": "user", "user": {"token": token or self._token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
            "current-context": "test",
        }
        path.write_text(json.dumps(content))
        return path

    def _prepare_keys(self) -> None:
        (self.directory / "tokens.csv").write_text(f"{self._token},admin,admin,system:masters\n")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (self.directory / "sa.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{program}.log").open("ab") as log:
            return subprocess.Popen(
                [BINARIES / program, *arguments], cwd=self.directory, stdout=log, stderr=log, env={**os.environ}
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if time.monotonic() > deadline or self._server is None or self._server.poll() is not None:
                log = (self.directory / "kube-apiserver.log").read_text()
                raise RuntimeError(f"kube-apiserver did not start: {log[-4000:]}")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        # Its certificate is made when it starts for the first time.
        return (self.directory / "pki/apiserver.crt").exists() and self._objects.read("/readyz") == (200, "ok")


class FaultyProxy:
    """Stands before the API server, without TLS: answers can be lost on the way back, late, refused, or end in the
    middle without a word."""

    def __init__(self, kubernetes: KubernetesAPI) -> None:
        self.answered: Counter[str] = Counter()
        """How often the server was asked for each "METHOD plural", of our resources and Leases."""
        self.lost: list[str] = []
        """"METHOD plural" of each answer that did not arrive."""
        self.delay_seconds = 0.0
        """How late each answer comes."""
        self.is_refusing = False
        """Whether requests for our resources are refused (429)."""
        self.ends_watches = ""
        """What each watch brings before it ends at once; while empty, watches are the server's."""
        self._to_lose: list[str] = []
        self._silences = threading.Event()
        self._closing = threading.Event()
        authority = kubernetes.directory / "pki" / "apiserver.crt"
        self._pool = urllib3.PoolManager(maxsize=32, ca_certs=str(authority), retries=False)
        self._upstream = f"https://127.0.0.1:{kubernetes.port}"
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def forward(self) -> None:
                with suppress(OSError, urllib3.exceptions.HTTPError):  # one of the two has gone
                    proxy._forward(self)
                self.close_connection = True

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def lose(self, *requests: str) -> None:
        """Lose the next answer to each of these, given as "METHOD plural"."""
        self._to_lose += requests

    def silence(self) -> None:
        """What is being watched brings nothing more, and does not end; later requests are answered."""
        silences, self._silences = self._silences, threading.Event()
        silences.set()

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def _forward(self, handler: BaseHTTPRequestHandler) -> None:
        silences, method, path = self._silences, handler.command, handler.path
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        if self.is_refusing and "/cinderbox.io/" in path:
            handler.send_response(429)
            handler.send_header("Retry-After", "1")
            handler.end_headers()
            return
        if self.ends_watches and "watch=true" in path.lower():
            self.answered["watches"] += 1
            handler.send_response(200)
            handler.end_headers()
            handler.wfile.write(self.ends_watches.encode())
            return
        kept = {name: value for name, value in handler.headers.items() if name.lower() not in _BETWEEN_TWO}
        answer = self._pool.request(method, self._upstream + path, body=body, headers=kept, preload_content=False)
        if self._loses(method, path):
            return
        self._closing.wait(self.delay_seconds)
        handler.send_response(answer.status)
        handler.send_header("Content-Type", answer.headers.get("Content-Type", ""))
        handler.end_headers()
        for piece in answer.stream(65536):
            if silences.is_set():
                self._closing.wait()  # the client ends it
            handler.wfile.write(piece)
            handler.wfile.flush()

    def _loses(self, method: str, path: str) -> bool:
        resource = next((word for word in path.split("/") if word.startswith(("cinder", "leases"))), "")
        self.answered[f"{method} {resource.partition('?')[0]}"] += 1
        for wanted in self._to_lose:
            verb, plural = wanted.split()
            if verb == method and plural in path and not path.endswith("/status"):
                self._to_lose.remove(wanted)
                self.lost.append(wanted)
                return True
        return False


_BETWEEN_TWO = ("host", "connection", "content-length", "accept-encoding")


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.kill()
        process.wait(30)
