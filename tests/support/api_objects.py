"""A Kubernetes API server, asked without kubectl: a process for each question of each poll would keep a core busy that
what is tested needs."""

import json
import ssl
import threading
from collections.abc import Callable
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

_SECONDS = 60


class APIObjects:
    """Its objects, as threads of a test read them."""

    def __init__(self, url: str, token: str, authority: Path, connect: Callable[..., Any] | None = None) -> None:
        """``authority``: file with its certificate authority; ``connect``: in place of socket.create_connection."""
        self._address, self._token, self._authority, self._connect = urlsplit(url), token, authority, connect
        self._of_thread = threading.local()
        self._kinds: dict[str, tuple[str, bool]] = {}

    def read(self, path: str, **parameters: str) -> tuple[int, str]:
        """Status and text of what is at a path; status 0 if nobody answers."""
        target = f"{path}?{urlencode(parameters)}" if parameters else path
        for _ in range(2):  # a connection of before the last start of the server has an end
            try:
                return self._ask(target)
            except (OSError, HTTPException) as error:
                self._of_thread.connection = None
                reason = str(error)
        return 0, reason

    def get(self, namespace: str, kind: str, name: str = "", **selectors: str) -> Any | None:
        """An object or a list of them, as `kubectl get --output json` prints it; None for a kind that is not known."""
        found = self._kinds.get(kind) or self._discover().get(kind)
        if found is None:
            return None
        base, is_namespaced = found
        folder, _, plural = base.rpartition("/")
        path = f"{folder}/namespaces/{namespace}/{plural}" if is_namespaced and namespace else base
        status, text = self.read(f"{path}/{name}" if name else path, **selectors)
        assert status == 200, f"{kind} {name}: {status} {text}"
        read = json.loads(text)
        for one in read.get("items", ()):  # in a list they say it once
            one |= {"apiVersion": read["apiVersion"], "kind": read["kind"].removesuffix("List")}
        return read

    def _discover(self) -> dict[str, tuple[str, bool]]:
        """Path, and whether it is in namespaces, by each name of each kind."""
        groups = json.loads(self.read("/apis")[1])["groups"]
        versions = ["/api/v1", *(f"/apis/{one['preferredVersion']['groupVersion']}" for one in groups)]
        found: dict[str, tuple[str, bool]] = {}
        for version in versions:
            status, text = self.read(version)
            for one in json.loads(text)["resources"] if status == 200 else ():
                group = version.split("/")[2] if version.startswith("/apis/") else ""
                plain = (one["name"], one["singularName"], *one.get("shortNames", ()))
                for name in (*plain, f"{one['name']}.{group}"):
                    found.setdefault(name, (f"{version}/{one['name']}", one["namespaced"]))
        self._kinds = found
        return found

    def _ask(self, target: str) -> tuple[int, str]:
        connection = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = self._of_thread.connection = self._new_connection()
        connection.request("GET", target, headers={"Authorization": f"Bearer {self._token}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def _new_connection(self) -> HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self._authority))
        address = self._address
        connection = HTTPSConnection(str(address.hostname), address.port, timeout=_SECONDS, context=context)
        if self._connect:
            connection._create_connection = self._connect  # type: ignore[attr-defined]
        return connection
