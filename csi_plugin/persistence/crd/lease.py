"""A Kubernetes Lease (coordination.k8s.io/v1) for the one active controller."""

import hashlib
import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil

from csi_plugin.persistence.crd.api import Conflict, Missing, ResourceAPI
from csi_plugin.persistence.leases import LeaseTerm
from csi_plugin.persistence.records import JSON

_PLURAL = "leases"
_CALL_TIMEOUT = (3.0, 6.0)
"""Seconds to connect, and to wait for an answer: two calls fit into a lease, which lasts 15 unless it is set."""
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")


@dataclass
class _Observed:
    version: str
    """Of a lease that is not there any more: none."""
    since: float
    spec: JSON
    """As it was held last."""


class KubernetesLease:
    """Leases named ``cinderbox-<name>`` in the namespace. Thread-safe.

    Clocks of different machines are not compared: a holder is over when its lease has not changed, before our own
    eyes, for as long as it lasts. A Lease that somebody deletes is still its holder's, who makes it again.
    """

    def __init__(self, *, namespace: str | None = None, kubeconfig: str | None = None) -> None:
        # Who holds the lease asks again by itself, and has to know soon that a call failed.
        self._api = ResourceAPI(
            *("coordination.k8s.io", "v1"),
            namespace=namespace,
            kubeconfig=kubeconfig,
            is_repeating=False,
            timeout=_CALL_TIMEOUT,
        )
        self._lock = threading.Lock()
        self._observed: dict[str, _Observed] = {}
        self._mine: dict[str, JSON] = {}
        """Leases as this process wrote them: renewing one costs a single call."""
        self._predecessors: dict[str, str] = {}

    def acquire_lease(self, name: str, *, holder: str, seconds: float) -> bool:
        """Take or renew a lease; False when another holder has it. ``seconds`` up to 0 release it at once.

        Raises PersistenceError.
        """
        with self._lock:
            return self._acquire(name, _lease_name(name), holder, seconds)

    def lease_term(self, name: str) -> LeaseTerm:
        """As RecordStore.lease_term(): the Lease's ``leaseTransitions``."""
        with self._lock:
            mine = self._mine.get(_lease_name(name))
            return LeaseTerm() if mine is None else LeaseTerm(_epoch(mine), self._predecessors.get(name, ""))

    def present_epoch(self, name: str) -> int:
        """The term that the lease is in, whoever holds it. Raises PersistenceError."""
        lease = self._api.get(_PLURAL, _lease_name(name))
        return 0 if lease is None else _epoch(lease)

    def release_lease(self, name: str, *, holder: str) -> None:
        """Release it, if it is held by ``holder``. Raises PersistenceError."""
        with self._lock:
            lease = self._api.get(_PLURAL, _lease_name(name))
            if lease is not None and lease["spec"].get("holderIdentity") == holder:
                self._write(_lease_name(name), lease, lease["spec"], "", 1.0)

    def close(self) -> None:
        self._api.close()

    def _acquire(self, of: str, name: str, holder: str, seconds: float) -> bool:
        owner = holder if seconds > 0 else ""
        mine = self._mine.get(name)
        if mine is not None and mine["spec"].get("holderIdentity") == holder:
            if self._write(name, mine, mine["spec"], owner, seconds):
                return True
            del self._mine[name]
        lease, observed = self._api.get(_PLURAL, name), self._observed.get(name)
        if lease is not None:
            version, spec = lease["metadata"]["resourceVersion"], lease["spec"]
        else:
            version, spec = "", observed.spec if observed is not None else {}
        if not self._is_free(name, version, spec, holder) or not self._write(name, lease, spec, owner, seconds):
            return False
        self._observed.pop(name, None)
        last = spec.get("holderIdentity", "")
        if last != holder:
            self._predecessors[of] = last
        return True

    def _is_free(self, name: str, version: str, spec: JSON, holder: str) -> bool:
        if spec.get("holderIdentity", "") in ("", holder):
            return True
        observed = self._observed.get(name)
        if observed is None or observed.version != version:
            self._observed[name] = _Observed(version, time.monotonic(), spec)
            return False
        return time.monotonic() - observed.since > float(spec.get("leaseDurationSeconds", 0))

    def _write(self, name: str, lease: JSON | None, old: JSON, owner: str, seconds: float) -> bool:
        """Write it over the version that was read, or make it; ``old``: what it says, or said last. False when another
        was faster."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        changes_hands = owner != old.get("holderIdentity", "")
        spec = {
            "holderIdentity": owner,
            "leaseDurationSeconds": max(1, ceil(seconds)),
            "renewTime": now,
            "acquireTime": now if changes_hands else old.get("acquireTime", now),
            "leaseTransitions": old.get("leaseTransitions", 0) + (1 if changes_hands and owner else 0),
        }
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": spec}
        try:
            if lease is None:
                self._mine[name] = self._api.create(_PLURAL, body | {"metadata": {"name": name}})
            else:
                self._mine[name] = self._api.replace(_PLURAL, body | {"metadata": lease["metadata"]})
        except Conflict:
            return False
        except Missing:
            if lease is None:
                raise  # its namespace is missing
            return self._write(name, None, old, owner, seconds)
        return True


def _epoch(lease: JSON) -> int:
    return int(lease["spec"].get("leaseTransitions") or 0)


def _lease_name(name: str) -> str:
    if _NAME.fullmatch(name):
        return f"cinderbox-{name}"
    return f"cinderbox-{hashlib.sha256(name.encode()).hexdigest()[:40]}"
