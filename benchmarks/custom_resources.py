"""How much the crd plugin costs with many volumes, on an API server and an etcd of its own.

    python -m benchmarks.custom_resources [--volumes 10000]

Prints the resident set of a controller and of a node, and how long a page of 100 volumes takes: ListVolumes, which is
answered from the watch cache, and in turn with it the API server's own list of the same 100 resources, which is the
limit for everything that asks the API server.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.kubernetes_api import KubernetesAPI
from tests.support.polling import wait_until
from tests.support.serving import Served

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import urllib3

from benchmarks.persistence import a_volume
from benchmarks.start import family, resident_kib
from csi_plugin.persistence.crd.resource import new_resource
from csi_plugin.persistence.records import Intent, Phase
from csi_plugin.persistence.sealing import generate_key
from csi_plugin.protocol import csi_pb2

FIRST = 1000
PAGE = 100
PAGES = 60
WRITERS = 8


class Server:
    """The API server, as a client that does not wait sees it."""

    def __init__(self, kubernetes: KubernetesAPI) -> None:
        self.kubernetes = kubernetes
        self.namespace = kubernetes.new_namespace()
        authority = kubernetes.directory / "pki" / "apiserver.crt"
        token = (kubernetes.directory / "tokens.csv").read_text().partition(",")[0]
        self._pool = urllib3.PoolManager(
            maxsize=WRITERS, ca_certs=str(authority), headers={"Authorization": f"Bearer {token}"}
        )
        self._url = (
            f"https://127.0.0.1:{kubernetes.port}/apis/cinderbox.io/v1/namespaces/{self.namespace}/cindervolumes"
        )

    def fill(self, numbers: range) -> None:
        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(self._create, numbers))

    def _create(self, number: int) -> None:
        volume = a_volume(number)
        volume.revision, volume.provider_auth = 1, None
        volume.intent = Intent(name=f"pvc-{number}", phase=Phase.READY, request={"parameters": {}})
        body = json.dumps(new_resource(volume, namespace=self.namespace, write="benchmark"))
        answer = self._pool.request("POST", self._url, body=body, headers=self._pool.headers | _JSON)
        assert answer.status == 201, answer.data

    def page(self, token: str) -> tuple[int, str]:
        """How many resources a page has, and where the next one begins."""
        answer = self._pool.request("GET", self._url, fields={"limit": str(PAGE), "continue": token})
        found = json.loads(answer.data)
        return len(found["items"]), found["metadata"].get("continue", "")


_JSON = {"Content-Type": "application/json"}


def our_page(served: Served, token: str) -> tuple[int, str]:
    answer = served.controller.ListVolumes(csi_pb2.ListVolumesRequest(max_entries=PAGE, starting_token=token))
    return len(answer.entries), answer.next_token


def count(served: Served) -> int:
    return len(served.controller.ListVolumes(csi_pb2.ListVolumesRequest()).entries)


def milliseconds_per_page(served: Served, server: Server) -> tuple[float, float]:
    """Medians of pages read in turn: ours, the API server's."""
    times: tuple[list[float], list[float]] = ([], [])
    tokens = ["", ""]
    for _ in range(PAGES):
        for which, read in enumerate((lambda token: our_page(served, token), server.page)):
            began = time.perf_counter()
            found, tokens[which] = read(tokens[which])
            times[which].append((time.perf_counter() - began) * 1000)
            assert found == PAGE
    return statistics.median(times[0]), statistics.median(times[1])


def mebibytes(served: Served) -> float:
    assert served.process is not None
    return sum(resident_kib(process) for process in family(served.process.pid)) / 1024


def wait_for_volumes(served: Served, kubernetes: KubernetesAPI, volumes: int) -> None:
    """Until the controller knows them, and has written their statuses."""
    patience = 60 + volumes / 20
    wait_until(lambda: count(served) == volumes, lambda: count(served), patience)
    statuses = lambda: kubernetes.writes("status")["PATCH cindervolumes"]  # noqa: E731
    wait_until(lambda: statuses() >= volumes, statuses, patience)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=int, default=10_000)
    volumes = parser.parse_args().volumes
    with tempfile.TemporaryDirectory(prefix="cinderbox-bench-") as name:
        directory = Path(name)
        (directory / "kubernetes").mkdir()
        kubernetes = KubernetesAPI(directory / "kubernetes")
        try:
            measure(kubernetes, directory, volumes)
        finally:
            kubernetes.stop()


def measure(kubernetes: KubernetesAPI, directory: Path, volumes: int) -> None:
    server = Server(kubernetes)
    persistence: dict[str, Any] = {
        "storage": "crd",
        "namespace": server.namespace,
        "kubeconfig": str(kubernetes.kubeconfig),
    }
    environment = {"CINDERBOX_SEALING_KEYS": generate_key(), "CINDERBOX_LOG_LEVEL": "info"}
    controller, node = (
        Served(directory, mode=mode, persistence=persistence, environment=environment, name=mode)
        for mode in ("controller", "node")
    )
    try:
        node.start()
        controller.start()
        count(controller)
        sizes = {0: mebibytes(controller)}
        pages = {}
        for least, most in ((0, FIRST), (FIRST, volumes)):
            server.fill(range(least, most))
            wait_for_volumes(controller, kubernetes, most)
            milliseconds_per_page(controller, server)
            pages[most] = milliseconds_per_page(controller, server)
            sizes[most] = mebibytes(controller)
        print_tables(sizes, pages, mebibytes(node))
    finally:
        node.close()
        controller.close()


def print_tables(sizes: dict[int, float], pages: dict[int, tuple[float, float]], node: float) -> None:
    print(f"{'resident set, MiB':40}{'0':>10}" + "".join(f"{volumes:10}" for volumes in pages) + "   volumes")
    print(f"{'controller':40}" + "".join(f"{size:10.1f}" for size in sizes.values()))
    print(f"{'node, which keeps none of them':40}{'':10}{node:10.1f}\n")
    print(f"{f'page of {PAGE}, ms':40}{'':10}" + "".join(f"{volumes:10}" for volumes in pages) + "   volumes")
    print(f"{'ListVolumes':40}{'':10}" + "".join(f"{ours:10.2f}" for ours, _ in pages.values()))
    print(f"{'list by the API server':40}{'':10}" + "".join(f"{theirs:10.2f}" for _, theirs in pages.values()))
    print(f"{'ratio':40}{'':10}" + "".join(f"{theirs / ours:9.1f}x" for ours, theirs in pages.values()))


if __name__ == "__main__":
    main()
