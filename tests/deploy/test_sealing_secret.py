"""The Secret with the sealing keys: made once in the cluster, whatever is rendered and applied, and kept as it is."""

import base64
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.persistence.base import PersistenceError
from csi_plugin.persistence.crd.sealing_secret import read_or_create_keys
from csi_plugin.persistence.sealing import generate_key
from tests.deploy.api_server import ApiServer
from tests.deploy.chart import CHART, HELM, HOST, RESTRICTED, one, render

pytestmark = pytest.mark.kubernetes  # helm renders the chart
NAMESPACE = "sealing"
SECRET = "box-cinderbox-sealing"
VALUES = RESTRICTED | {"driverName": "sealing.example"}
ALLOW = "cinderbox.io/allow-delete=true"


@pytest.fixture(scope="module")
def server(api_server: ApiServer) -> ApiServer:
    api_server.install(VALUES, namespace=NAMESPACE)
    return api_server


@pytest.fixture
def kubeconfig(server: ApiServer) -> str:
    """The controller's, with the chart's rights."""
    return str(server.service_account(NAMESPACE, "box-cinderbox-controller"))


@pytest.fixture
def absent(server: ApiServer) -> None:
    server.kubectl("annotate", "secret", SECRET, "-n", NAMESPACE, ALLOW)
    server.kubectl("delete", "secret", SECRET, "-n", NAMESPACE)


def key_of(server: ApiServer) -> str:
    return base64.b64decode(server.get("secret", SECRET, "-n", NAMESPACE)["data"]["keys"]).decode()


def putting(data: dict[str, Any]) -> list[str]:
    return ["patch", "secret", SECRET, "-n", NAMESPACE, "--type=merge", "-p", json.dumps({"data": data})]


def encoded(*lines: str) -> str:
    return base64.b64encode("\n".join(lines).encode()).decode()


@pytest.mark.parametrize("values", [VALUES, HOST])
def test_what_is_rendered_twice_is_the_same(values: dict[str, Any]) -> None:
    first, second = (render(values, namespace=NAMESPACE) for _ in range(2))
    assert first == second
    assert all(found["metadata"]["name"] != SECRET for found in first)


def test_a_sync_keeps_the_key(server: ApiServer) -> None:
    before = key_of(server)
    for _ in range(2):
        server.apply(render(VALUES, "--skip-tests", namespace=NAMESPACE), "--force-conflicts")
        assert key_of(server) == before
    assert len(base64.b64decode(before, validate=True)) == 32


@pytest.mark.usefixtures("absent")
def test_one_of_many_pods_makes_it_with_the_controllers_rights(server: ApiServer, kubeconfig: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(
            pool.map(
                lambda _: read_or_create_keys(SECRET, "keys", namespace=NAMESPACE, kubeconfig=kubeconfig), range(8)
            )
        )
    assert set(found) == {key_of(server)}
    with pytest.raises(PersistenceError, match="403"):
        read_or_create_keys("of-somebody-else", "keys", namespace=NAMESPACE, kubeconfig=kubeconfig)


@pytest.mark.usefixtures("absent")
def test_the_pods_command(server: ApiServer, kubeconfig: str, tmp_path: Path) -> None:
    init = one(render(VALUES, namespace=NAMESPACE), "Deployment")["spec"]["template"]["spec"]["initContainers"][0]
    file = tmp_path / "keys"
    arguments = [word for word in init["args"] if not word.startswith("--file=")]
    where = (f"--namespace={NAMESPACE}", f"--kubeconfig={kubeconfig}")
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-m", "csi_plugin.cli", *arguments, f"--file={file}", *where],
            check=True,
        )
        assert file.read_text() == key_of(server)
        assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("absent")
def test_no_new_key_where_records_are_sealed(server: ApiServer, kubeconfig: str) -> None:
    sealed = {"id": "sealed", "volumeId": "v", "connectionInfo": "cinderbox-sealed:1:0:AAAA"}
    metadata = {"name": "sealed", "namespace": NAMESPACE}
    server.create({"apiVersion": "cinderbox.io/v1", "kind": "CinderConnection", "metadata": metadata, "spec": sealed})
    with pytest.raises(PersistenceError, match="cinderconnections are sealed with its keys: restore it from a backup"):
        read_or_create_keys(SECRET, "keys", namespace=NAMESPACE, kubeconfig=kubeconfig)
    controller = f"--as=system:serviceaccount:{NAMESPACE}:box-cinderbox-controller"
    server.kubectl("delete", "cconn", "sealed", "-n", NAMESPACE, controller)
    read_or_create_keys(SECRET, "keys", namespace=NAMESPACE, kubeconfig=kubeconfig)


def test_no_key_is_put_into_a_secret_that_is_there(server: ApiServer, kubeconfig: str) -> None:
    with pytest.raises(PersistenceError, match="no keys in its entry 'other': put back what was there"):
        read_or_create_keys(SECRET, "other", namespace=NAMESPACE, kubeconfig=kubeconfig)


def test_keys_are_added_and_not_taken_away(server: ApiServer) -> None:
    old, new = key_of(server).strip(), generate_key()
    for data in ({"keys": encoded(new)}, {"keys": None}, {"keys": encoded(f"# {old}", new)}, {"keys": ""}):
        message = server.refusal(*putting(data))
        assert "a key may be added in front, on a line of its own, and none removed" in message, data
        assert ALLOW in message
    server.kubectl(*putting({"keys": encoded(new, old, "")}))
    third = generate_key()
    server.kubectl(*putting({"keys": encoded(third, new, old, "")}))
    for lines in ((new, old, ""), (third, old, ""), (third, new), (third, new.lower(), old, "")):
        assert "none removed" in server.refusal(*putting({"keys": encoded(*lines)})), lines
    server.kubectl("annotate", "secret", SECRET, "-n", NAMESPACE, ALLOW)
    server.kubectl(*putting({"keys": encoded(new)}))
    server.kubectl("annotate", "secret", SECRET, "-n", NAMESPACE, f"{ALLOW.partition('=')[0]}-")
    assert "none removed" in server.refusal(*putting({"keys": encoded(old)}))


RENDERED = """
apiVersion: v1
kind: Secret
metadata:
  name: {{ include "cinderbox.sealingSecret" . }}
  labels: {{- include "cinderbox.labels" . | nindent 4 }}
  annotations:
    helm.sh/resource-policy: keep
data:
  {{ .Values.sealing.secretKey }}: {{ randBytes 32 | b64enc }}
"""
"""As charts before 0.3 had it among the templates."""


def test_an_upgrade_from_a_chart_that_rendered_it_keeps_the_key(server: ApiServer, tmp_path: Path) -> None:
    namespace, before = "sealing-upgrade", tmp_path / "before"
    shutil.copytree(CHART, before)
    (before / "templates/rendered.yaml").write_text(RENDERED)
    values = tmp_path / "values.json"
    values.write_text(json.dumps(RESTRICTED | {"driverName": "upgrade.example", "admission": {"keep": False}}))
    keys = []
    for chart in (before, CHART, CHART):
        command = [HELM, "--kubeconfig", server.kubeconfig, "upgrade", "--install", "box", chart, "-n", namespace]
        subprocess.run([*command, "--create-namespace", "-f", values], check=True, capture_output=True)
        keys.append(server.get("secret", SECRET, "-n", namespace)["data"])
    assert keys[0] == keys[1] == keys[2]
    subprocess.run([HELM, "--kubeconfig", server.kubeconfig, "uninstall", "box", "-n", namespace], check=True)
    assert server.get("secret", SECRET, "-n", namespace)["data"] == keys[0]
