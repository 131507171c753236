"""``cinderbox config``: whether the settings can work, before a server runs with them."""

from typing import Annotated

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
    print(yaml.safe_dump(redact(loaded.model_dump(mode="json", exclude_defaults=True))), end="")
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
