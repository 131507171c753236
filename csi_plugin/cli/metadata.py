"""Commands for the whole of the metadata: moving it elsewhere, and the keys that seal its secrets."""

import json
from typing import Annotated, Any

import typer

from csi_plugin.cli.settings_source import EXIT_SETTINGS, SettingsOption, load_settings, metadata, readable_errors


def migrate(
    target: Annotated[str, typer.Argument(help='Where to: JSON such as {"storage":"db","connection":"mysql://..."}')],
    settings: SettingsOption = None,
) -> None:
    """Copy all metadata from where the settings keep it to another plugin. Stop the controller before.

    It can be interrupted and run again: what has arrived is skipped. Put the new place into the settings afterwards.
    """
    from rich.progress import Progress, TextColumn

    loaded = load_settings(settings)
    config = _parsed(target)
    with readable_errors():
        from csi_plugin.persistence.migration import copy_records
        from csi_plugin.server.controller_runtime import open_store
        from csi_plugin.storage.backend import Backend

        source = open_store(loaded)
        Backend.set_persistence(config)
        with Progress(TextColumn("{task.description}: {task.completed} records")) as progress:
            tasks: dict[str, Any] = {}
            for step in copy_records(source, Backend.store):
                if step.kind not in tasks:
                    tasks[step.kind] = progress.add_task(step.kind, total=None)
                description = f"{step.kind} ({step.skipped} were there)" if step.skipped else step.kind
                progress.update(tasks[step.kind], completed=step.copied, description=description)


def generate_key() -> None:
    """Print a new key for sealing secrets at rest, for the file that `sealing_keys_file` names."""
    from csi_plugin.persistence.sealing import generate_key as new_key

    print(new_key())


def reseal(settings: SettingsOption = None) -> None:
    """Seal all secrets with the first of the keys. Afterwards the other keys are not needed any more."""
    from csi_plugin.persistence.sealing import SealingStore

    with metadata(settings) as store:
        if not isinstance(store, SealingStore):
            typer.echo("cinderbox: no sealing keys are set (sealing_keys_file, or CINDERBOX_SEALING_KEYS)", err=True)
            raise typer.Exit(EXIT_SETTINGS)
        print(f"{store.reseal()} records were sealed anew")


def _parsed(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except ValueError as error:
        config = str(error)
    if not isinstance(config, dict):
        typer.echo(f"cinderbox: TARGET must be a JSON object with `storage` and its arguments: {config}", err=True)
        raise typer.Exit(EXIT_SETTINGS)
    return config
