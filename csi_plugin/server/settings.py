"""Settings of ``cinderbox serve``: flags, environment, YAML file and ember-csi's variables, checked as a whole."""

import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from csi_plugin import addresses
from csi_plugin.server import settings_texts
from csi_plugin.server.backend_names import check_names
from csi_plugin.server.ember_environment import backend_settings, ember_settings
from csi_plugin.server.endpoints import grpc_address, registration_socket
from csi_plugin.server.settings_yaml import load_yaml, what_is_wrong
from csi_plugin.server.topology_rules import check_topologies
from csi_plugin.suggestions import did_you_mean

PREFIX = "CINDERBOX_"
SETTINGS_FILE_VARIABLE = "CINDERBOX_SETTINGS"

# CSI spec, GetPluginInfoResponse.name: domain name notation of at most 63 characters.
_DRIVER_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")


_MOST_SECONDS = 10 * 365 * 24 * 3600.0
_MOST_HOURS = _MOST_SECONDS / 3600
"""What is asked for beyond stands for "never"; a clock of the system takes no number without end."""
_MOST_VOLUMES = 2**31 - 1
_MOST_WORKERS = 100_000


class SettingsError(ValueError):
    """Settings that cannot be used; the message names the setting, where it came from and what is allowed."""


class Settings(BaseModel):
    """Everything that can be set. The YAML file has these names; the environment has them in capitals, with
    ``CINDERBOX_`` in front and JSON for lists and objects; flags have dashes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    endpoint: str = Field(
        "unix:///run/cinderbox/csi.sock", description="Where CSI is served: unix:///path or tcp://host:port."
    )
    mode: Literal["controller", "node", "all"] = Field("all", description="Which services this process serves.")
    driver_name: str = Field("csi.cinderbox.io", description="CSI driver name, in domain name notation.")
    cluster_name: str = Field(
        "", description="Written to volumes on the storage, so that its admin knows whose they are."
    )
    node_id: str = Field(
        default_factory=socket.gethostname, description="CSI node id of this machine; at most 255 bytes."
    )
    state_dir: Path = Field(
        Path("/var/lib/cinderbox"),
        description="Directory for the node's state and keys, locks, and Cinder's state_path. Local to the machine.",
    )
    persistence: dict[str, Any] = Field(
        default_factory=lambda: {"storage": "memory"},
        description="Where metadata is kept: `storage` (memory, memory_db, db, crd or a plugin's name) and its "
        "arguments. With crd, nodes register by their own CinderNode.",
    )
    backends: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Backends: `name`, `driver` (class path or short name), `topology` (list of segments), "
        "`max_concurrent_operations`, and options of the driver. With persistence in crd, CinderBackends come to them.",
    )
    cinder_conf: Path | None = Field(
        None,
        description="A cinder.conf whose enabled_backends are added to `backends`, by their sections' names.",
    )
    cinder_options: dict[str, Any] = Field(
        default_factory=dict, description="Options of Cinder's [DEFAULT] section, or `group.option`."
    )
    sealing_keys_file: Path | None = Field(
        None, description="File with the keys that seal secrets at rest (base64, 32 bytes each; the first one seals)."
    )
    file_locks_path: Path | None = Field(None, description="Directory of lock files; state_dir/locks by default.")
    root_helper: str = Field("sudo", description="Command that runs others as root when this process is not root.")
    request_multipath: bool = Field(False, description="Attach over all paths to the storage.")
    storage_network_ip: str | None = Field(
        None, description="This node's address on the storage network, IPv4 or IPv6, or a name that it looks up."
    )
    project_id: str | None = Field(None, description="Recorded as the owner of volumes.")
    user_id: str | None = Field(None, description="Recorded as the maker of volumes.")
    host: str | None = Field(
        None,
        description="Name under which volumes are recorded as being served; cluster-wide the same, so that a standby "
        "on another machine serves them too.",
    )
    topologies: list[dict[str, str]] = Field(
        default_factory=list, description="Segments from which the backends can be reached that name none themselves."
    )
    node_topology: dict[str, str] = Field(
        default_factory=dict,
        description="Segments of this node; without any, `<driver_name>/reach: all`, which all nodes share.",
    )
    reconnect_interval_seconds: float = Field(
        60,
        ge=0,
        le=_MOST_SECONDS,
        description="Pause between two looks for paths of staged volumes that are lost; 0: nobody looks.",
    )
    trim_interval_hours: float = Field(
        0,
        ge=0,
        le=_MOST_HOURS,
        description="Pause between two runs of fstrim on this node's volumes; 0: nobody runs it.",
    )
    max_volumes: int = Field(
        0, ge=0, le=_MOST_VOLUMES, description="Volumes that this node can take; 0: as many as the CO likes."
    )
    default_filesystem: Literal["ext4", "xfs", "btrfs"] = Field("ext4", description="When a claim names none.")
    host_programs: list[Literal["iscsiadm", "multipath", "multipathd", "nvme"]] = Field(
        default_factory=list,
        description="Storage clients of the host that a node in a container runs in place of its image's, for daemons "
        "of another version; the container needs the host's process ids.",
    )
    local_folders: list[Path] | None = Field(
        None,
        description="Folders of this host, and those in them, where volumes may be files (protocol local); an empty "
        "list for none. Unset: all but the system's and the node's own.",
    )
    storage_networks: list[str] | None = Field(
        None,
        description="Networks (192.0.2.0/24) in which a node looks for storage, for portals, monitors and servers of "
        "shares. Unset: all but link-local and multicast addresses, and for portals those in `cluster_networks`.",
    )
    cluster_networks: list[str] = Field(
        default_factory=list,
        description="Networks of the cluster's services and pods, besides those that the controller learns from "
        "Kubernetes: no portal in them is connected to, unless `storage_networks` has it.",
    )
    oldest_kernel: str = Field(
        "4.14",
        pattern=r"^\d{1,2}\.\d{1,3}$",
        description="Version of the oldest Linux that has to mount new volumes: filesystems are made without what it "
        "does not know. The default is older than all supported distributions' kernels.",
    )
    disabled_features: list[Literal["clone", "snapshot", "expand", "expand_online", "block_rwx"]] = Field(
        default_factory=list, description="Features that are not offered."
    )
    undo_window_seconds: float = Field(
        900,
        ge=0,
        le=_MOST_SECONDS,
        description="How long after an interrupted creation its remains may be removed without a person's word.",
    )
    settle_seconds: float = Field(
        10,
        ge=0,
        le=_MOST_SECONDS,
        description="How long after a crash a storage may take to show what an interrupted creation created, and to "
        "end what a controller had told it whose lease ran out.",
    )
    recovery_interval_seconds: float = Field(
        60, gt=0, le=_MOST_SECONDS, description="Pause between two looks at what was interrupted."
    )
    node_expiry_hours: float = Field(
        168,
        ge=0,
        le=_MOST_HOURS,
        description="A node that has no volume and was not heard of for this long is forgotten; 0: never. One that "
        "comes back registers again.",
    )
    lease_seconds: float = Field(
        15,
        ge=3,
        le=_MOST_SECONDS,
        description="How long a controller that has died keeps others from taking over; one that cannot renew its "
        "lease in this time ends.",
    )
    registry_endpoint: str | None = Field(
        None,
        description="Node registry: where a node (mode node) finds it, and where a controller serves it besides "
        "`endpoint`. unix:///path, or tcp://host:port with the three TLS settings.",
    )
    registry_tls_ca: Path | None = Field(None, description="Certificate authority of the registry's other side.")
    registry_tls_certificate: Path | None = Field(None, description="Own certificate for the registry.")
    registry_tls_key: Path | None = Field(None, description="Key of that certificate.")
    registration_dir: Path | None = Field(
        None, description="Kubelet's folder for plugin registration, where a node tells kubelet of itself."
    )
    kubelet_endpoint: str | None = Field(
        None, description="Path of the `endpoint` socket as kubelet sees it, where that differs."
    )
    http_address: str | None = Field(
        None,
        description="host:port for /healthz, /readyz and /metrics over HTTP; [::]:port on all addresses, of IPv4 too.",
    )
    workers: int = Field(512, ge=1, le=_MOST_WORKERS, description="Operations that may run or wait at once.")
    stop_seconds: float = Field(
        60, ge=0, le=_MOST_SECONDS, description="How long running operations may go on after SIGTERM."
    )
    log_format: Literal["json", "console"] = Field("console", description="Form of the log lines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        description="Least level that is logged. `debug: true`, its earlier form, means debug.",
    )
    disable_logs: bool = Field(False, description="Silence Cinder and its libraries.")
    system_files: Path | None = Field(
        None, description="Tar of files and directories that vendor tools need, unpacked to / at start."
    )

    @field_validator("endpoint", "registry_endpoint")
    @classmethod
    def _check_endpoint(cls, value: str | None) -> str | None:
        if value is not None:
            grpc_address(value)
        return value

    @field_validator("http_address")
    @classmethod
    def _check_http_address(cls, value: str | None) -> str | None:
        if value is not None:
            addresses.split_host_port(value)
        return value

    @field_validator("storage_network_ip")
    @classmethod
    def _check_storage_network_ip(cls, value: str | None) -> str | None:
        if value is not None:
            addresses.check_host(value)
        return value

    @field_validator("storage_networks", "cluster_networks")
    @classmethod
    def _check_networks(cls, value: list[str] | None) -> list[str] | None:
        for text in value or []:
            addresses.check_network(text)
        return value

    @field_validator("driver_name")
    @classmethod
    def _check_driver_name(cls, value: str) -> str:
        if not _DRIVER_NAME.fullmatch(value):
            raise ValueError(
                "must have at most 63 letters, digits, dots and dashes, with a letter or digit at both ends"
            )
        return value

    @field_validator("cluster_name")
    @classmethod
    def _check_cluster_name(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("must be printable: administrators of the storage see it")
        return value

    @field_validator("node_id")
    @classmethod
    def _check_node_id(cls, value: str) -> str:
        if not 1 <= len(value.encode()) <= 255 or not value.isprintable():
            raise ValueError("must have 1 to 255 printable bytes")
        return value

    @field_validator("backends", mode="before")
    @classmethod
    def _name_backends(cls, value: Any) -> Any:
        backends = [backend_settings(backend) for backend in value] if isinstance(value, list) else value
        for backend in backends if isinstance(backends, list) else []:
            for key, alias in (("volume_backend_name", "name"), ("volume_driver", "driver")):
                if not isinstance(backend.get(key), str) or not backend[key]:
                    raise ValueError(f"every backend needs {alias}")
        if isinstance(backends, list):
            check_names([backend["volume_backend_name"] for backend in backends])
        return backends

    @model_validator(mode="after")
    def _check_together(self, info: ValidationInfo) -> Self:
        tls = (self.registry_tls_ca, self.registry_tls_certificate, self.registry_tls_key)
        if any(tls) and not all(tls):
            raise ValueError("registry_tls_ca, registry_tls_certificate and registry_tls_key go together")
        if self.registry_endpoint and self.registry_endpoint.startswith("tcp:") and not all(tls):
            raise ValueError("registry_endpoint over TCP needs registry_tls_ca, _certificate and _key")
        has_backends = self.backends or self.cinder_conf or self.persistence.get("storage") == "crd"
        serves = (info.context or {}).get("serves", True)
        if serves and self.mode != "node" and not has_backends:
            raise ValueError(
                "mode controller and mode all need backends, or a cinder_conf with enabled_backends (or persistence in "
                "crd, whose CinderBackends are backends)"
            )
        if self.mode == "node" and not self.registry_endpoint and self.persistence.get("storage") != "crd":
            raise ValueError(
                "mode node needs registry_endpoint, to tell the controller who this node is (or persistence in crd)"
            )
        if self.registration_dir and self.mode == "controller":
            raise ValueError("registration_dir is for nodes; mode controller has none")
        if self.registration_dir and not self.endpoint.startswith("unix:"):
            raise ValueError("registration_dir needs an endpoint that is a unix socket: kubelet connects to no other")
        if self.registration_dir:
            path = registration_socket(self.registration_dir, self.driver_name)
            try:
                grpc_address(f"unix://{path}")
            except ValueError as error:
                raise ValueError(f"registration_dir and driver_name: {path} {error}") from None
        return self

    @model_validator(mode="after")
    def _check_topologies(self) -> Self:
        named = [("topologies", segments) for segments in self.topologies]
        if self.node_topology:
            named.append(("node_topology", self.node_topology))
        for backend in self.backends:
            of_backend = backend.get("topology") or []
            if not isinstance(of_backend, list):
                raise ValueError(f"backends: topology of {backend['volume_backend_name']} must be a list of segments")
            named += [(f"backends: topology of {backend['volume_backend_name']}", segments) for segments in of_backend]
        check_topologies(named)
        return self

    @property
    def locks_path(self) -> Path:
        return self.file_locks_path or self.state_dir / "locks"


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    file: Path | None = None,
    serves: bool = True,
) -> Settings:
    """Settings from all sources; of two that set the same, the first counts: flags, ``CINDERBOX_*`` variables,
    ember-csi's variables, the YAML file (``file``, or the one that CINDERBOX_SETTINGS names).
    ``serves`` False: for what needs no backends, such as a look at the metadata.

    Raises SettingsError.
    """
    file = file or (Path(environment[SETTINGS_FILE_VARIABLE]) if environment.get(SETTINGS_FILE_VARIABLE) else None)
    try:
        ember = ember_settings(environment)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    sources: list[tuple[str, Mapping[str, Any]]] = [
        ("flags", dict(flags or {})),
        ("environment", _from_environment(environment)),
        ("ember-csi's environment variables", ember),
        (str(file), _from_file(file) if file else {}),
    ]
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source, values in sources:
        for name, value in _with_log_level(values, source).items():
            _check_known(name, source)
            if name not in merged:
                merged[name], origin[name] = value, source
    settings_texts.keep_secrets(merged)
    for name, value in merged.items():
        if not settings_texts.are_storable(value):
            raise SettingsError(f"{name} (from {origin[name]}) must be text in UTF-8, without a character of number 0")
    try:
        return Settings.model_validate(merged, context={"serves": serves})
    except ValidationError as error:
        raise SettingsError("; ".join(_readable(problem, origin) for problem in error.errors())) from None


def _with_log_level(values: Mapping[str, Any], source: str) -> Mapping[str, Any]:
    """The values with ``debug``, the earlier form of a log level, as ``log_level``."""
    if "debug" not in values:
        return values
    others = {name: value for name, value in values.items() if name != "debug"}
    try:
        is_debug = TypeAdapter(bool).validate_python(values["debug"] or False)
    except ValidationError:
        raise SettingsError(f"debug (from {source}) must be true or false") from None
    return others | {"log_level": "debug"} if is_debug else others


def _check_known(name: str, source: str) -> None:
    if name not in Settings.model_fields:
        raise SettingsError(f"unknown setting {name} (from {source}){did_you_mean(name, Settings.model_fields)}")


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """CINDERBOX_* variables. Values are YAML, of which JSON is a part, where the setting is not text."""
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        name = variable.removeprefix(PREFIX).lower()
        if not variable.startswith(PREFIX) or variable in (SETTINGS_FILE_VARIABLE, *_OTHERS_VARIABLES):
            continue
        values[name] = parse_text(name, text, source=variable)
    return values


def parse_text(name: str, text: str, *, source: str) -> Any:
    """A setting's value given as text: YAML, of which JSON is a part, unless the setting is text itself."""
    kind = Settings.model_fields[name].annotation if name in Settings.model_fields else str
    if kind in (str, Path, str | None, Path | None):
        return text
    try:
        return load_yaml(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{source} is not valid JSON or YAML: {what_is_wrong(error)}") from None


# Variables with our prefix that other parts read by themselves.
_OTHERS_VARIABLES = ("CINDERBOX_FAILPOINT", "CINDERBOX_SEALING_KEYS", "CINDERBOX_SEALING_KEYS_FILE")


def _from_file(file: Path) -> dict[str, Any]:
    try:
        content = load_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"settings file {file} cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"settings file {file} is not valid YAML: {what_is_wrong(error)}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"settings file {file} is not UTF-8: byte {error.start}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(f"settings file {file} must hold a mapping of settings")
    return {str(name): value for name, value in content.items()}


def _readable(problem: Any, origin: Mapping[str, str]) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    if not path:
        return str(message)
    name = str(problem["loc"][0])
    return f"{path} (from {origin.get(name, 'its default')}): {message}"
