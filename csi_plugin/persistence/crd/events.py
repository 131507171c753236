"""Kubernetes Events (events.k8s.io/v1): what administrators should hear of, beside the resource that it is about."""

import hashlib
import logging
import socket
import threading
import time
from datetime import UTC, datetime
from typing import Literal

from csi_plugin.persistence.base import PersistenceError
from csi_plugin.persistence.crd.api import Conflict, ResourceAPI
from csi_plugin.persistence.crd.kinds import GROUP, VERSION
from csi_plugin.persistence.records import JSON

LOG = logging.getLogger(__name__)

EventType = Literal["Normal", "Warning"]

_PLURAL = "events"
_REPORTER = f"{GROUP}/cinderbox"
_CALL_TIMEOUT = (3.0, 5.0)
"""Seconds to connect, and to wait for an answer: nobody's work waits for an Event."""
_QUIET_SECONDS = 600.0
"""An Event that is recorded again within this time is not sent; servers forget Events after an hour."""
_NOTE_LIMIT = 1024
_INSTANCE_LIMIT = 128
_NAME_LIMIT = 200


class Events:
    """Events in one namespace. Thread-safe.

    The same Event about the same object is one resource, whoever sends it: its series counts the repetitions.
    """

    def __init__(self, *, namespace: str | None = None, kubeconfig: str | None = None) -> None:
        """``namespace`` and ``kubeconfig`` (a path) are those of the pod when not given. Raises InvalidPersistence."""
        self._api = ResourceAPI(
            *("events.k8s.io", "v1"),
            namespace=namespace,
            kubeconfig=kubeconfig,
            is_repeating=False,
            timeout=_CALL_TIMEOUT,
        )
        self._lock = threading.Lock()
        self._sent: dict[str, float] = {}
        self._last: dict[str, str] = {}
        """By object, the name of the Event that was sent last."""

    def record(self, regarding: JSON, event_type: EventType, reason: str, message: str) -> None:
        """Tell administrators about an object of this namespace.

        ``regarding`` is reference()'s; ``reason`` is one CamelCase word, for machines; ``message`` is for humans, cut
        after 1,024 characters. Raises nothing: an Event that cannot be sent is logged.
        """
        name = _event_name(regarding, event_type, reason, message)
        if not self._is_due(name, about=f"{regarding['kind']} {regarding['name']} {regarding.get('uid', '')}"):
            return
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": self._api.namespace},
            "regarding": regarding,
            "type": event_type,
            "reason": reason,
            "action": reason,
            "note": message[:_NOTE_LIMIT],
            "eventTime": now,
            "reportingController": _REPORTER,
            "reportingInstance": socket.gethostname()[:_INSTANCE_LIMIT],
        }
        try:
            self._send(name, event, now)
        except PersistenceError as error:
            LOG.warning("%s %s: %s (no Event: %s)", regarding["kind"], regarding["name"], message, error)
            with self._lock:
                self._sent.pop(name, None)

    def close(self) -> None:
        self._api.close()

    def _is_due(self, name: str, *, about: str) -> bool:
        """Not while the same one is the last word about its object, for a while."""
        now = time.monotonic()
        with self._lock:
            self._sent = {known: at for known, at in self._sent.items() if now - at < _QUIET_SECONDS}
            self._last = {other: last for other, last in self._last.items() if last in self._sent}
            if name in self._sent and self._last.get(about) == name:
                return False
            self._sent[name], self._last[about] = now, name
            return True

    def _send(self, name: str, event: JSON, now: str) -> None:
        try:
            self._api.create(_PLURAL, event)
        except Conflict:
            present = self._api.get(_PLURAL, name) or {}
            count = (present.get("series") or {}).get("count", 1)
            self._api.merge(_PLURAL, name, {"series": {"count": count + 1, "lastObservedTime": now}})


def reference(kind: str, metadata: JSON) -> JSON:
    """How an Event names one of our resources, given its kind and its metadata."""
    names = {name: metadata[name] for name in ("name", "namespace", "uid") if name in metadata}
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind} | names


def _event_name(regarding: JSON, *words: str) -> str:
    identity = "\0".join([regarding["kind"], regarding["name"], regarding.get("uid", ""), *words])
    stem = regarding["name"][:_NAME_LIMIT].rstrip(".-")
    return f"{stem}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
