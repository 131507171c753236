"""``cinderbox config``: whether the settings can work, before a server runs with them."""

from typing import Annotated, Any

import typer

from csi_plugin.cli.output import say
from csi_plugin.cli.settings_source import EXIT_SETTINGS, SettingsOption, load_settings, readable_errors


def config(
    settings: SettingsOption = None,
    connect: Annotated[
        bool, typer.Option("--connect", help="Open the metadata and start every backend's driver once, too.")
    ] = False,
) -> None:
    """Check the settings and print those in effect, without secrets, as YAML."""
    import yaml

    from csi_plugin.server.redaction import redact

    loaded = load_settings(settings)
    shown = loaded.model_dump(mode="json", exclude_defaults=True)
    if loaded.mode != "node":
        _mask_options(shown)
    print(yaml.safe_dump(redact(shown, bounded=False)), end="")
    if not connect or loaded.mode == "node":
        return
    from csi_plugin.server.backend_configurations import backend_configurations
    from csi_plugin.server.metadata_store import open_store
    from csi_plugin.storage.backend_set import BackendSet

    with readable_errors():
        open_store(loaded)
        backends = BackendSet(backend_configurations(loaded))
    backends.start()
    backends.wait_until_attempted()
    for status in backends.status():
        say(f"backend {status.name}: {'ready' if status.is_ready else status.error}", err=True)
    backends.close()
    if not all(status.is_ready for status in backends.status()):
        raise typer.Exit(EXIT_SETTINGS)


def _mask_options(shown: dict[str, Any]) -> None:
    """Mask what Cinder and the drivers define as secret; of a driver that is not there, all that it is given."""
    from csi_plugin.known_secrets import MASK
    from csi_plugin.server.driver_names import full_driver_name
    from csi_plugin.storage.cinder.options import secret_among

    for backend in shown.get("backends", ()):
        options = {name: value for name, value in backend.items() if name not in _OURS}
        try:
            secret = secret_among(options, volume_driver=full_driver_name(backend["volume_driver"]))
        except (ValueError, ImportError):
            secret = set(options)
        secret.update(set(backend.get("secret_options") or ()) & options.keys())
        backend.update(dict.fromkeys(secret, MASK))
    options = shown.get("cinder_options", {})
    options.update(dict.fromkeys(secret_among(options), MASK))


_OURS = frozenset(
    {"volume_backend_name", "volume_driver", "topology", "max_concurrent_operations", "strict", "secret_options"}
)
"""What is said of a backend besides its driver's options."""
