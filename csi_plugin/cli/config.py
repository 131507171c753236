"""``cinderbox config``: whether the settings can work, before a server runs with them."""

from contextlib import closing
from typing import Annotated, Any

import typer

from csi_plugin.cli.output import say
from csi_plugin.cli.settings_source import EXIT_SETTINGS, SettingsOption, load_settings, readable_errors


def config(
    settings: SettingsOption = None,
    connect: Annotated[
        bool,
        typer.Option(
            "--connect",
            help="Open the metadata, too, and start the driver of every backend in the settings once; say what the "
            "active controller does of CinderBackends.",
        ),
    ] = False,
) -> None:
    """Check the settings and print those in effect, without secrets, as YAML."""
    import yaml

    from csi_plugin.server.redaction import redact

    loaded = load_settings(settings, serves=True)
    shown = loaded.model_dump(mode="json", exclude_defaults=True)
    if loaded.mode != "node":
        _mask_options(shown)
    print(yaml.safe_dump(redact(shown, bounded=False)), end="")
    if not connect or loaded.mode == "node":
        return
    from csi_plugin.server.backend_configurations import backend_configurations
    from csi_plugin.server.metadata_store import open_store
    from csi_plugin.storage.backend_set import BackendSet
    from csi_plugin.storage.library_state import STATE

    # Closed, since a store in custom resources has threads, which must not run when the process ends.
    with readable_errors(), closing(open_store(loaded)):
        backends = BackendSet(backend_configurations(loaded))
        STATE.only_looks = True
        backends.start()
        backends.wait_until_attempted()
        for status in backends.status():
            say(f"backend {status.name}: {'ready' if status.is_ready else status.error}", err=True)
        backends.close()
        is_well = all(status.is_ready for status in backends.status())
        if loaded.persistence.get("storage") == "crd":
            is_well = _say_cinder_backends() and is_well
    if not is_well:
        raise typer.Exit(EXIT_SETTINGS)


def _say_cinder_backends() -> bool:
    """What the active controller says of each CinderBackend; whether all of them serve. Starts no driver, which that
    has running."""
    from csi_plugin.storage.backend import Backend

    found = Backend.persistence.backends.last_reports()
    for name, conditions in found.items():
        ready, reason, message = conditions.get("Ready", (False, "Unknown", "no controller has said anything of it"))
        say(f"CinderBackend {name}: {'ready' if ready else f'{reason}: {message}'}", err=True)
        current, reason, message = conditions.get("UpToDate", (ready, "", ""))
        if ready and not current:
            say(f"CinderBackend {name}: serves with an earlier configuration: {reason}: {message}", err=True)
    if not found:
        say("there is no CinderBackend", err=True)
    return all(conditions.get("Ready", (False,))[0] for conditions in found.values())


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
