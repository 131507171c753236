"""Custom resources at the API server: calls that are repeated when that can help, and errors in our own terms."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import tenacity
import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from csi_plugin.instrumentation import tracing
from csi_plugin.persistence.base import InvalidPersistence, PersistenceError
from csi_plugin.persistence.crd import json_depth
from csi_plugin.persistence.crd.sizes import check_size
from csi_plugin.persistence.records import JSON

LOG = logging.getLogger(__name__)

PAGE = 500
RETRY_SECONDS = 10.0
"""How long a call is retried while the API server is unreachable or overloaded; callers have their own deadlines."""
CALL_TIMEOUT = (5.0, 15.0)
"""Seconds to connect, and to wait for an answer. A call that took this long is repeated once."""
WATCH_SECONDS = 300
SILENCE_SECONDS = 90.0
"""A watch that brought nothing, not even a bookmark (one a minute), for this long is taken for dead."""

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_READING = ("get", "list")
_TRANSIENT = frozenset({429, 500, 502, 503, 504})


class Forbidden(PersistenceError):
    """403: the account's rights, or an admission policy, do not allow it."""


class Missing(PersistenceError):
    """404: no such resource."""


class Conflict(PersistenceError):
    """409: the resource exists, or has been written since it was read."""


class Expired(PersistenceError):
    """410: the API server has forgotten that resourceVersion; list again."""


class ResourceAPI:
    """Calls on namespaced resources of one group and version. Thread-safe.

    Every method raises PersistenceError (of a subclass above where one fits). Calls are repeated with back-off after
    429, 5xx and broken connections, never after an answer that decides.
    """

    def __init__(
        self,
        group: str,
        version: str,
        *,
        namespace: str | None = None,
        kubeconfig: str | None = None,
        is_repeating: bool = True,
        timeout: tuple[float, float] = CALL_TIMEOUT,
    ) -> None:
        """``namespace`` and ``kubeconfig`` (a path) are those of the pod when not given. ``is_repeating``: whether
        calls are repeated at all.

        Raises InvalidPersistence when there is no configuration.
        """
        configuration = client.Configuration()
        found = _configure(configuration, kubeconfig)
        configuration.connection_pool_maxsize = 64
        configuration.retries = False  # repeated here, where one knows what may be repeated
        self.namespace = namespace or found
        self.client = _Client(configuration)
        self._resources = client.CustomObjectsApi(self.client)
        self._at = {"group": group, "version": version, "namespace": self.namespace}
        self._is_repeating = is_repeating
        self._timeout = timeout
        self.before_write: Callable[[], None] = _do_nothing
        """Called before each request that changes something, also before one that is repeated; may raise."""
        self._closing = threading.Event()

    def create(self, plural: str, body: JSON) -> JSON:
        """Raises RecordTooLarge, as do all that write."""
        check_size(body, plural=plural, name=body["metadata"]["name"])
        return self._call(self._resources.create_namespaced_custom_object, plural=plural, body=body)

    def replace(self, plural: str, body: JSON) -> JSON:
        """Raises Conflict unless the body's resourceVersion is the present one."""
        name = body["metadata"]["name"]
        check_size(body, plural=plural, name=name)
        return self._call(self._resources.replace_namespaced_custom_object, plural=plural, name=name, body=body)

    def get(self, plural: str, name: str) -> JSON | None:
        try:
            return self._call(self._resources.get_namespaced_custom_object, plural=plural, name=name)
        except Missing:
            return None

    def merge(self, plural: str, name: str, patch: JSON) -> JSON:
        """Apply a JSON merge patch (RFC 7396)."""
        check_size(patch, plural=plural, name=name)
        return self._merge(self._resources.patch_namespaced_custom_object, plural, name, patch)

    def merge_status(self, plural: str, name: str, status: JSON) -> JSON:
        """Apply a JSON merge patch to the status."""
        check_size({"status": status}, plural=plural, name=name)
        patch = self._resources.patch_namespaced_custom_object_status
        return self._merge(patch, plural, name, {"status": status})

    def delete(self, plural: str, name: str, *, version: int) -> JSON:
        """The resource if it stays because of its finalizers, else a Status. Raises Missing, and Conflict unless it
        still has that resourceVersion."""
        options = {"preconditions": {"resourceVersion": str(version)}}
        return self._call(self._resources.delete_namespaced_custom_object, plural=plural, name=name, body=options)

    def list_all(self, plural: str) -> tuple[list[JSON], int]:
        """All of a kind, as one snapshot, and its resourceVersion. Raises Missing when the kind is not installed."""
        while True:
            try:
                return self._list(plural)
            except Expired:
                LOG.info("the list of %s expired while it was read; listing again", plural)

    def list_in_cluster(self, group: str, version: str, plural: str) -> Iterator[JSON]:
        """Resources of another kind in the whole cluster. Raises Missing when the kind is not installed."""
        page: JSON = {"metadata": {"continue": ""}}
        path = f"/apis/{group}/{version}/{plural}" if group else f"/api/{version}/{plural}"
        while (token := page["metadata"].get("continue")) is not None:
            page = self.read(path, limit=PAGE, **{"continue": token})
            yield from page["items"]
            if not page["metadata"].get("continue"):
                return

    def read(self, path: str, **query: Any) -> JSON:
        """Whatever the API server has at a path. Raises Missing."""
        return self._call(self._get_path, path=path, query=query)

    def apply(self, path: str, body: JSON, *, manager: str) -> JSON:
        """Server-side apply, not forced. Raises Conflict where another manager has a field with another value."""
        return self._call(self._apply_path, path=path, body=body, manager=manager)

    def remove(self, path: str) -> JSON:
        """Delete whatever the API server has at a path. Raises Missing."""
        return self._call(self._delete_path, path=path)

    def watch(self, plural: str, version: int) -> "Watch":
        """Changes after a resourceVersion. Raises Expired."""
        response = _request(
            self._resources.list_namespaced_custom_object,
            **self._at,
            plural=plural,
            watch=True,
            resource_version=str(version),
            allow_watch_bookmarks=True,
            timeout_seconds=WATCH_SECONDS,
            _preload_content=False,
            _request_timeout=(self._timeout[0], SILENCE_SECONDS),
        )
        return Watch(cast(urllib3.HTTPResponse, response))

    def close(self) -> None:
        """Calls that wait to be repeated end with their errors."""
        self._closing.set()
        self.client.rest_client.pool_manager.clear()

    def _merge(self, function: Any, plural: str, name: str, patch: JSON) -> JSON:
        return self._call(function, plural=plural, name=name, body=patch, _content_type="application/merge-patch+json")

    def _list(self, plural: str) -> tuple[list[JSON], int]:
        items: list[JSON] = []
        token: str | None = None
        while True:
            page = self._call(self._resources.list_namespaced_custom_object, plural=plural, limit=PAGE, _continue=token)
            items += page["items"]
            token = page["metadata"].get("continue")
            if not token:
                return items, int(page["metadata"]["resourceVersion"])

    def _get_path(self, *, path: str, query: JSON, **_: Any) -> JSON:
        request = self.client.param_serialize(
            "GET", path, query_params=list(query.items()), auth_settings=["BearerToken"]
        )
        response = self.client.call_api(*request, _request_timeout=self._timeout)
        response.read()
        return cast(JSON, self.client.response_deserialize(response, {"200": "object"}).data)

    def _delete_path(self, *, path: str, **_: Any) -> JSON:
        request = self.client.param_serialize("DELETE", path, auth_settings=["BearerToken"])
        response = self.client.call_api(*request, _request_timeout=self._timeout)
        response.read()
        return cast(JSON, self.client.response_deserialize(response, {"200": "object", "202": "object"}).data)

    def _apply_path(self, *, path: str, body: JSON, manager: str, **_: Any) -> JSON:
        request = self.client.param_serialize(
            "PATCH",
            path,
            query_params=[("fieldManager", manager)],
            header_params={"Accept": "application/json", "Content-Type": "application/apply-patch+yaml"},
            body=json.dumps(body),  # which is YAML too
            auth_settings=["BearerToken"],
        )
        response = self.client.call_api(*request, _request_timeout=self._timeout)
        response.read()
        return cast(JSON, self.client.response_deserialize(response, {"200": "object", "201": "object"}).data)

    def _call(self, function: Any, **arguments: Any) -> JSON:
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_transient),
            stop=tenacity.stop_any(self._last_attempt(), tenacity.stop_when_event_set(self._closing)),
            sleep=tenacity.sleep_using_event(self._closing),
            wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=2.0, jitter=0.2),
            reraise=True,
        )
        verb = function.__name__.removeprefix("_").partition("_")[0]
        with tracing.span(f"kubernetes.{verb}", resource=arguments.get("plural") or arguments["path"]):
            request = _request if verb in _READING else self._write
            return cast(JSON, attempts(request, function, **self._at, **arguments, _request_timeout=self._timeout))

    def _write(self, function: Any, **arguments: Any) -> Any:
        self.before_write()
        return _request(function, **arguments)

    def _last_attempt(self) -> Any:
        if not self._is_repeating:
            return tenacity.stop_after_attempt(1)
        return tenacity.stop_all(tenacity.stop_after_delay(RETRY_SECONDS), tenacity.stop_after_attempt(2))


class Watch:
    """The events of one watch request; iterate in one thread, close() from any."""

    def __init__(self, response: urllib3.HTTPResponse) -> None:
        self._response = response

    def __iter__(self) -> Iterator[JSON]:
        """{"type": ADDED, MODIFIED, DELETED or BOOKMARK, "object": the resource}; ends when the server ends it."""
        try:
            rest = b""
            for piece in self._response.stream(65536, decode_content=True):
                *lines, rest = (rest + piece).split(b"\n")
                for line in filter(None, lines):
                    yield self._event(line)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise PersistenceError(f"the watch broke: {error}") from error
        finally:
            self._response.close()

    def close(self) -> None:
        """End the iteration at once, also while it waits for an event."""
        try:
            self._response.shutdown()
        except (OSError, ValueError, RuntimeError):
            self._response.close()

    @staticmethod
    def _event(line: bytes) -> JSON:
        event: JSON = json_depth.parse(line.decode())
        if event["type"] == "ERROR":
            status = event["object"]
            kind = Expired if status.get("code") == 410 else PersistenceError
            raise kind(f"the API server ended the watch: {status.get('message')}")
        return event


class _Client(client.ApiClient):
    def deserialize(self, response_text: str, response_type: str, content_type: str | None) -> Any:
        try:
            return super().deserialize(response_text, response_type, content_type)
        except RecursionError:
            return super().deserialize(json_depth.shallow(response_text), response_type, content_type)


def _do_nothing() -> None:
    pass


class _TransientError(PersistenceError):
    """The API server is unreachable or overloaded."""


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, _TransientError)


def _request(function: Any, **arguments: Any) -> Any:
    try:
        return function(**arguments)
    except ApiException as error:
        raise _error_for(error) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _TransientError(f"the Kubernetes API server is unreachable: {error}") from error


def _error_for(error: ApiException) -> PersistenceError:
    try:
        message = json.loads(error.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        message = error.reason
    if error.status in _TRANSIENT:
        return _TransientError(f"the Kubernetes API server answers {error.status}: {message}")
    kind = {403: Forbidden, 404: Missing, 409: Conflict, 410: Expired}.get(cast(int, error.status), PersistenceError)
    return kind(f"the Kubernetes API server refuses ({error.status}): {message}")


def _configure(configuration: client.Configuration, kubeconfig: str | None) -> str:
    """Fill in where the API server is and who we are; returns the namespace we live in."""
    try:
        if kubeconfig is None and _NAMESPACE_FILE.exists():
            config.load_incluster_config(client_configuration=configuration)
            return _NAMESPACE_FILE.read_text().strip()
        config.load_kube_config(config_file=kubeconfig, client_configuration=configuration, persist_config=False)
        _, active = config.list_kube_config_contexts(config_file=kubeconfig)
    except (config.ConfigException, OSError) as error:
        raise InvalidPersistence(f"kubeconfig: the Kubernetes API server is not configured: {error}") from error
    return str(active["context"].get("namespace") or "default")
