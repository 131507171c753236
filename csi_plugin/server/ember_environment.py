"""ember-csi's environment variables, as settings of Cinderbox."""

import json
import logging
from collections.abc import Mapping
from typing import Any

LOG = logging.getLogger(__name__)

# Keys of X_CSI_EMBER_CONFIG and the settings they are.
_EMBER_CONFIG = {
    "project_id": "project_id",
    "user_id": "user_id",
    "root_helper": "root_helper",
    "request_multipath": "request_multipath",
    "file_locks_path": "file_locks_path",
    "state_path": "state_dir",
    "grpc_workers": "workers",
    "disable_logs": "disable_logs",
    "disabled": "disabled_features",
}
_IGNORED_EMBER_CONFIG = {
    "enable_probe": "Probe always answers",
    "slow_operations": "reads never wait behind storage here",
}
_PLAIN = {
    "CSI_ENDPOINT": "endpoint",
    "CSI_MODE": "mode",
    "X_CSI_STORAGE_NW_IP": "storage_network_ip",
    "X_CSI_NODE_ID": "node_id",
    "X_CSI_DEFAULT_MOUNT_FS": "default_filesystem",
    "X_CSI_SYSTEM_FILES": "system_files",
}
_JSON = {
    "X_CSI_PERSISTENCE_CONFIG": "persistence",
    "X_CSI_BACKEND_CONFIG": "backends",
    "X_CSI_TOPOLOGIES": "topologies",
    "X_CSI_NODE_TOPOLOGY": "node_topology",
}
_OF_NO_USE = {
    "X_CSI_DEBUG_MODE": "no remote debugger is started; it means `log_level`: debug",
    "X_CSI_SPEC_VERSION": "ignored: CSI 1.13 is served, which 1.x clients understand",
    "X_CSI_ABORT_DUPLICATES": "ignored: a repeated request waits for the running one and shares its answer",
}
_BACKEND_ALIASES = {
    "driver": "volume_driver",
    "name": "volume_backend_name",
    "multipath": "use_multipath_for_image_xfer",
}


def ember_settings(environment: Mapping[str, str]) -> dict[str, Any]:
    """Settings that ember-csi's variables stand for; empty variables count as absent, as they did there.

    Raises ValueError naming the variable that is not valid JSON or not of the right form.
    """
    settings: dict[str, Any] = {
        name: environment[variable] for variable, name in _PLAIN.items() if environment.get(variable)
    }
    if "mode" in settings:
        settings["mode"] = settings["mode"].lower()
    if persistence := _json(environment, "X_CSI_PERSISTENCE_CONFIG", dict):
        settings["persistence"] = persistence
    backends = _json(environment, "X_CSI_BACKEND_CONFIG", dict, list)
    if backends:
        settings["backends"] = [
            backend_settings(backend) for backend in (backends if isinstance(backends, list) else [backends])
        ]
    if topologies := _json(environment, "X_CSI_TOPOLOGIES", list):
        settings["topologies"] = topologies
    if topology := _json(environment, "X_CSI_NODE_TOPOLOGY", dict):
        settings["node_topology"] = topology
    for variable, meaning in _OF_NO_USE.items():
        if environment.get(variable):
            LOG.warning("%s: %s", variable, meaning)
    if environment.get("X_CSI_DEBUG_MODE"):
        settings["log_level"] = "debug"
    return _ember_config(_json(environment, "X_CSI_EMBER_CONFIG", dict) or {}) | settings


def variables() -> list[tuple[str, str]]:
    """Every variable with what it stands for, as Markdown, for the settings page."""
    rows = [(variable, f"`{name}`") for variable, name in (_PLAIN | _JSON).items()]
    rows += [(f"X_CSI_EMBER_CONFIG.{key}", f"`{name}`") for key, name in _EMBER_CONFIG.items()]
    rows.append(("X_CSI_EMBER_CONFIG.plugin_name", "`driver_name`, with `.ember-csi.io` behind it"))
    rows.append(("X_CSI_EMBER_CONFIG.debug", "`log_level`: debug"))
    rows += [(f"X_CSI_EMBER_CONFIG.{key}", f"ignored: {why}") for key, why in _IGNORED_EMBER_CONFIG.items()]
    rows.append(("X_CSI_EMBER_CONFIG, any other key", "an option of Cinder: `cinder_options`"))
    return rows + list(_OF_NO_USE.items())


def backend_settings(backend: Mapping[str, Any]) -> dict[str, Any]:
    """A backend's options under Cinder's names; ``driver``, ``name`` and ``multipath`` are ember-csi's short ones."""
    if not isinstance(backend, Mapping):
        raise ValueError(f"a backend must be a JSON object, not {type(backend).__name__}")
    return {_BACKEND_ALIASES.get(key, key): value for key, value in backend.items()}


def _ember_config(config: Mapping[str, Any]) -> dict[str, Any]:
    for key in ("state_path", "plugin_name"):
        if not isinstance(config.get(key, ""), str | None):
            raise ValueError(f"{key} in X_CSI_EMBER_CONFIG must be text")
    state_path = config.get("state_path") or ""
    settings: dict[str, Any] = {}
    cinder_options: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, str):
            value = value.replace("$state_path", state_path)
        if key in _EMBER_CONFIG:
            settings[_EMBER_CONFIG[key]] = value
        elif key == "plugin_name":
            if value:
                settings["driver_name"] = value if "ember-csi" in value else f"{value}.ember-csi.io"
        elif key == "debug":
            if value:
                settings["log_level"] = "debug"
        elif key in _IGNORED_EMBER_CONFIG:
            LOG.warning("%s in X_CSI_EMBER_CONFIG is ignored: %s", key, _IGNORED_EMBER_CONFIG[key])
        else:
            cinder_options[key] = value
    if cinder_options:
        settings["cinder_options"] = cinder_options
    return settings


def _json(environment: Mapping[str, str], variable: str, *allowed: type) -> Any:
    text = environment.get(variable)
    if not text:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{variable} is not valid JSON: {error}") from None
    if not isinstance(value, allowed):
        names = " or ".join("an object" if kind is dict else "a list" for kind in allowed)
        raise ValueError(f"{variable} must be {names} in JSON")
    return value
