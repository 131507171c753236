"""A SolidFire cluster as its clients see it: JSON-RPC over HTTPS on loopback, with state, and with faults on demand.

Only what Cinder's driver calls is there, with the names and errors of the Element API. Each connection has a thread, as
an array serves its clients at once; the state changes under one lock, as in the array's own database.
"""

import base64
import itertools
import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

JSON = dict[str, Any]
LOGIN = "cinder"
PASSWORD = "Pa55-of-the-cluster"
TIB = 1024**4


class ArrayError(Exception):
    """An error of the Element API, by its name."""


@dataclass
class Faults:
    """What goes wrong: every so-manieth request, counted over all of them; 0 is never."""

    busy: int = 0
    """Answered with an error that clients repeat after a while."""
    unavailable: int = 0
    """Answered with status 503 and a page of HTML, as by a load balancer."""
    dropped: int = 0
    """The connection is closed instead of an answer, before anything is done."""


@dataclass
class Hold:
    """Requests of one method that stop, before or after they have taken effect, until they are let go."""

    method: str
    done_first: bool
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


class SolidFireArray:
    """A running cluster; ``address`` and ``port`` are its management endpoint's."""

    address = "127.0.0.1"

    def __init__(self, folder: Path) -> None:
        self.volumes: dict[int, JSON] = {}
        self.snapshots: dict[int, JSON] = {}
        self.accounts: dict[int, JSON] = {}
        self.access_groups: dict[int, JSON] = {}
        self.calls: Counter[str] = Counter()
        self.most_at_once: Counter[str] = Counter()
        self.faults = Faults()
        self.injected: Counter[str] = Counter()
        self.gather: dict[str, threading.Barrier] = {}
        """Method: a barrier that its requests pass before they are served."""
        self._hold: Hold | None = None
        self._running: Counter[str] = Counter()
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._requests = itertools.count(1)
        self._server = ThreadingHTTPServer((self.address, 0), _handler_of(self))
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_certificate(folder))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="solidfire", daemon=True)

    def __enter__(self) -> "SolidFireArray":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._hold is not None:
            self._hold.released.set()
        self._server.shutdown()
        self._server.server_close()

    # What tests ask and want.

    def active(self) -> list[str]:
        """Names of the volumes that are not deleted."""
        with self._lock:
            return sorted(volume["name"] for volume in self.volumes.values() if volume["status"] == "active")

    def volume(self, cinder_id: str) -> JSON:
        with self._lock:
            return next(dict(found) for found in self.volumes.values() if found["name"] == f"UUID-{cinder_id}")

    def attached(self) -> dict[str, list[int]]:
        """Volumes that initiators may log in to."""
        with self._lock:
            groups = self.access_groups.values()
            return {iqn: sorted(group["volumes"]) for group in groups for iqn in group["initiators"]}

    def secrets(self) -> set[str]:
        with self._lock:
            return {account[name] for account in self.accounts.values() for name in ("initiatorSecret", "targetSecret")}

    def hold(self, method: str, *, done_first: bool) -> Hold:
        self._hold = Hold(method, done_first)
        return self._hold

    # Serving.

    def serve(self, method: str, parameters: JSON) -> JSON | None:
        """The answer to a request, or None when the connection is to be closed without one."""
        with self._lock:
            self.calls[method] += 1
            self._running[method] += 1
            self.most_at_once[method] = max(self.most_at_once[method], self._running[method])
        try:
            if barrier := self.gather.get(method):
                barrier.wait(60)
            hold = self._hold if self._hold and self._hold.method == method else None
            if hold and not hold.done_first:
                return self._held(hold)
            answer = self._answer(method, parameters)
            return self._held(hold) if hold else answer
        finally:
            with self._lock:
                self._running[method] -= 1

    def _held(self, hold: Hold) -> None:
        self._hold = None  # the repeat, by whoever comes back, is served
        hold.reached.set()
        hold.released.wait(120)

    def _answer(self, method: str, parameters: JSON) -> JSON:
        action: Callable[[JSON], JSON] | None = getattr(self, f"_{method}", None)
        try:
            if action is None:
                raise ArrayError("xUnknownAPIMethod")
            with self._lock:
                return {"result": action(parameters)}
        except ArrayError as error:
            return {"error": {"name": str(error), "code": 500, "message": f"{error}: {parameters}"}}

    def next_fault(self) -> str | None:
        number = next(self._requests)
        for name in ("busy", "unavailable", "dropped"):
            every = getattr(self.faults, name)
            if every and number % every == 0:
                self.injected[name] += 1
                return name
        return None

    # The Element API.

    def _GetClusterInfo(self, _: JSON) -> JSON:
        return {"clusterInfo": {"name": "array", "uuid": "a1b2", "mvip": self.address, "svip": "192.0.2.20"}}

    def _GetClusterVersionInfo(self, _: JSON) -> JSON:
        return {"clusterAPIVersion": "12.3"}

    def _GetClusterCapacity(self, _: JSON) -> JSON:
        counters = ("uniqueBlocksUsedSpace", "uniqueBlocks", "zeroBlocks", "nonZeroBlocks")
        rates = ("currentIOPS", "averageIOPS", "maxIOPS", "peakIOPS")
        space = {"maxProvisionedSpace": 10 * TIB, "maxUsedSpace": 2 * TIB, "usedSpace": 0}
        return {"clusterCapacity": space | dict.fromkeys((*counters, *rates), 0)}

    def _ListAccounts(self, _: JSON) -> JSON:
        return {"accounts": list(self.accounts.values())}

    def _GetAccountByName(self, parameters: JSON) -> JSON:
        for account in self.accounts.values():
            if account["username"] == parameters["username"]:
                return {"account": account}
        raise ArrayError("xUnknownAccount")

    def _AddAccount(self, parameters: JSON) -> JSON:
        if any(account["username"] == parameters["username"] for account in self.accounts.values()):
            raise ArrayError("xDuplicateUsername")
        account = {"accountID": next(self._ids), "status": "active", **parameters}
        self.accounts[account["accountID"]] = account
        return {"accountID": account["accountID"]}

    def _CreateVolume(self, parameters: JSON) -> JSON:
        return self._add_volume(parameters, parameters["accountID"], parameters["totalSize"])

    def _CloneVolume(self, parameters: JSON) -> JSON:
        source = self._found(self.volumes, "volumeID", parameters)
        if "snapshotID" in parameters:
            source = self._found(self.snapshots, "snapshotID", parameters)
        size = parameters.get("newSize") or source["totalSize"]
        if size < source["totalSize"]:
            raise ArrayError("xInvalidParameter")
        return self._add_volume({**parameters, "attributes": {}}, parameters["newAccountID"], size)

    def _add_volume(self, parameters: JSON, account: int, size: int) -> JSON:
        number = next(self._ids)
        self.volumes[number] = {
            "volumeID": number,
            "name": parameters["name"],
            "accountID": account,
            "totalSize": size,
            "status": "active",
            "iqn": f"iqn.2010-01.com.solidfire:a1b2.{parameters['name'].lower()}.{number}",
            "attributes": parameters.get("attributes") or {},
            "qos": {"minIOPS": 50, "maxIOPS": 15000, "burstIOPS": 15000} | (parameters.get("qos") or {}),
            "volumePairs": [],
        }
        return {"volumeID": number}

    def _ModifyVolume(self, parameters: JSON) -> JSON:
        volume = self._found(self.volumes, "volumeID", parameters)
        if parameters.get("totalSize", volume["totalSize"]) < volume["totalSize"]:
            raise ArrayError("xInvalidParameter")
        volume.update({name: value for name, value in parameters.items() if value != {}})
        return {}

    def _DeleteVolume(self, parameters: JSON) -> JSON:
        volume = self._found(self.volumes, "volumeID", parameters)
        volume["status"] = "deleted"
        for group in self.access_groups.values():
            group["volumes"] = [each for each in group["volumes"] if each != volume["volumeID"]]
        for number in [key for key, found in self.snapshots.items() if found["volumeID"] == volume["volumeID"]]:
            del self.snapshots[number]
        return {}

    def _PurgeDeletedVolume(self, parameters: JSON) -> JSON:
        del self.volumes[self._found(self.volumes, "volumeID", parameters)["volumeID"]]
        return {}

    def _ListVolumes(self, parameters: JSON) -> JSON:
        first, limit = int(parameters.get("startVolumeID") or 0), parameters.get("limit")
        found = [
            volume
            for number, volume in sorted(self.volumes.items())
            if number >= first and parameters.get("volumeName", volume["name"]) == volume["name"]
        ]
        return {"volumes": found[:limit]}

    def _ListActiveVolumes(self, _: JSON) -> JSON:
        return {"volumes": [volume for volume in self.volumes.values() if volume["status"] == "active"]}

    def _ListVolumesForAccount(self, parameters: JSON) -> JSON:
        return {"volumes": [each for each in self.volumes.values() if each["accountID"] == parameters["accountID"]]}

    def _CreateSnapshot(self, parameters: JSON) -> JSON:
        volume = self._found(self.volumes, "volumeID", parameters)
        number = next(self._ids)
        self.snapshots[number] = {
            "snapshotID": number,
            "volumeID": volume["volumeID"],
            "name": parameters["name"],
            "totalSize": volume["totalSize"],
            "status": "done",
        }
        return {"snapshotID": number}

    def _ListSnapshots(self, parameters: JSON) -> JSON:
        wanted = parameters.get("volumeID")
        return {"snapshots": [each for each in self.snapshots.values() if wanted in (None, each["volumeID"])]}

    def _DeleteSnapshot(self, parameters: JSON) -> JSON:
        del self.snapshots[self._found(self.snapshots, "snapshotID", parameters)["snapshotID"]]
        return {}

    def _ListVolumeAccessGroups(self, _: JSON) -> JSON:
        return {"volumeAccessGroups": list(self.access_groups.values())}

    def _CreateVolumeAccessGroup(self, parameters: JSON) -> JSON:
        for iqn in parameters["initiators"]:
            if any(iqn in group["initiators"] for group in self.access_groups.values()):
                raise ArrayError(f"xExceededLimit: {iqn}")
        number = next(self._ids)
        self.access_groups[number] = {"volumeAccessGroupID": number, "deletedVolumes": [], **parameters}
        return {"volumeAccessGroupID": number}

    def _AddVolumesToVolumeAccessGroup(self, parameters: JSON) -> JSON:
        group = self._access_group(parameters)
        if set(parameters["volumes"]) <= set(group["volumes"]):
            raise ArrayError("xAlreadyInVolumeAccessGroup")
        group["volumes"] += parameters["volumes"]
        return {}

    def _RemoveVolumesFromVolumeAccessGroup(self, parameters: JSON) -> JSON:
        group = self._access_group(parameters)
        if not set(parameters["volumes"]) <= set(group["volumes"]):
            raise ArrayError("xNotInVolumeAccessGroup")
        group["volumes"] = [each for each in group["volumes"] if each not in parameters["volumes"]]
        return {}

    def _DeleteVolumeAccessGroup(self, parameters: JSON) -> JSON:
        del self.access_groups[self._access_group(parameters)["volumeAccessGroupID"]]
        return {}

    def _access_group(self, parameters: JSON) -> JSON:
        try:
            found: JSON = self.access_groups[parameters["volumeAccessGroupID"]]
        except KeyError:
            raise ArrayError("xVolumeAccessGroupIDDoesNotExist") from None
        return found

    @staticmethod
    def _found(objects: dict[int, JSON], key: str, parameters: JSON) -> JSON:
        try:
            return objects[int(parameters[key])]
        except KeyError:
            raise ArrayError(f"x{key.removesuffix('ID').capitalize()}IDDoesNotExist") from None


def _handler_of(array: SolidFireArray) -> type[BaseHTTPRequestHandler]:
    expected = "Basic " + base64.b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers.get("Authorization") != expected:
                return self.answer(401, b"<html>Unauthorized</html>")
            fault = array.next_fault()
            if fault == "busy":
                return self.answer(200, json.dumps({"error": {"name": "xNotReadyForIO"}}).encode())
            if fault == "unavailable":
                return self.answer(503, b"<html>Service Unavailable</html>")
            served = None if fault == "dropped" else array.serve(request["method"], request["params"])
            if served is None:
                self.close_connection = True
                return None
            return self.answer(200, json.dumps(served).encode())

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def _certificate(folder: Path) -> Path:
    """A self-signed certificate with its key, as arrays come with."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SolidFireArray.address)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(issuer_name=name, subject_name=name, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    encoded = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    path = folder / "array.pem"
    path.write_bytes(encoded + certificate.public_bytes(serialization.Encoding.PEM))
    return path
