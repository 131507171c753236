"""A node writes lists in lists into its own CinderNode: no other node's record is lost with it."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from csi_plugin.persistence.crd.api import ResourceAPI
from csi_plugin.persistence.crd.kinds import GROUP, VERSION
from csi_plugin.persistence.crd.watch_cache import WatchCache
from csi_plugin.persistence.encoding import copy
from csi_plugin.persistence.records import NodeRecord
from tests.support.polling import wait_until

DEPTHS = [300, 900, 5000]  # for one that copies records, for one that reads JSON, and far beyond both


def node(name: str, *, version: int, connector: str = "{}") -> str:
    metadata = {"name": name, "uid": name, "resourceVersion": str(version), "creationTimestamp": "2026-11-30T00:00:00Z"}
    return f'{{"metadata": {json.dumps(metadata)}, "spec": {{"id": "{name}", "connector": {connector}}}}}'


def hostile(depth: int) -> str:
    quoted = r'"\"[[{"'
    deep = ["[" * depth + quoted + "]" * depth, '{"a":' * depth + quoted + "}" * depth]
    return f'{{"initiator": "iqn.x:1", "csi_staged_volumes": {deep[0]}, "wwpns": {deep[1]}}}'


class Server(BaseHTTPRequestHandler):
    """Answers as an API server does: one list, and then a watch."""

    depth: ClassVar[int]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        attacker = node("attacker", version=2, connector=hostile(self.depth))
        if "watch=" in self.path:
            events = (("MODIFIED", attacker), ("ADDED", node("later", version=3)))
            text = "".join(f'{{"type": "{kind}", "object": {found}}}\n' for kind, found in events)
        else:
            items = f"{node('victim', version=1)}, {attacker}"
            text = f'{{"metadata": {{"resourceVersion": "2"}}, "items": [{items}]}}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ResourceAPI]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )
    found = ResourceAPI(GROUP, VERSION, namespace="default", kubeconfig=str(kubeconfig))
    yield found
    found.close()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("depth", DEPTHS)
def test_all_nodes_are_read(api: ResourceAPI, monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    monkeypatch.setattr(Server, "depth", depth, raising=False)
    cache = WatchCache(api, NodeRecord, on_change=lambda kind, record_id: None)
    try:
        wait_until(lambda: len(cache.find({}, after=None, limit=None)) == 3, lambda: "the watch", timeout=10)
        nodes = [copy(found) for found in cache.find({}, after=None, limit=None)]
        assert [found.id for found in nodes] == ["attacker", "later", "victim"]
        assert nodes[0].connector["initiator"] == "iqn.x:1"
        assert [found.id for found in cache.nodes_named(["iqn.x:1"])] == ["attacker"]
        assert cache.silent_seconds() == 0
    finally:
        cache.close()
