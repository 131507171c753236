"""Commands for the whole of the metadata: moving it elsewhere, and the keys that seal its secrets."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csi_plugin.cli.output import complain, say
from csi_plugin.cli.settings_source import EXIT_SETTINGS, SettingsOption, load_settings, metadata, readable_errors
from csi_plugin.persistence.records import VolumeRecord

if TYPE_CHECKING:
    from csi_plugin.storage.migration.copy_records import Progress
    from csi_plugin.storage.migration.ember_csi import Omitted


def migrate(
    target: Annotated[str, typer.Argument(help='Where to: JSON such as {"storage":"db","connection":"mysql://..."}')],
    settings: SettingsOption = None,
) -> None:
    """Copy all metadata from where the settings keep it to another plugin. Stop the controller before.

    It can be interrupted and run again: what has arrived is skipped. Put the new place into the settings afterwards.
    """
    loaded = load_settings(settings)
    config = _parse(target)
    with readable_errors():
        from csi_plugin.server.metadata_store import check_sealing, open_store
        from csi_plugin.storage.backend import Backend
        from csi_plugin.storage.migration.copy_records import copy_records

        check_sealing(loaded, config)
        with closing(open_store(loaded)) as source:
            Backend.set_persistence(config)
            with closing(Backend.store) as copy:
                _show(copy_records(source, copy))


def import_ember_csi(
    namespace: Annotated[
        str, typer.Option(help="Where ember-csi kept its resources: `namespace` of its X_CSI_PERSISTENCE_CONFIG.")
    ] = "default",
    kubeconfig: Annotated[
        Path | None, typer.Option(help="The cluster that has them; by default the pod's, or kubectl's.")
    ] = None,
    settings: SettingsOption = None,
) -> None:
    """Copy what ember-csi recorded in Kubernetes to where the settings keep metadata. Stop both drivers before.

    It can be interrupted and run again: what has arrived is left as it is. Exit status 1: something could not be read.
    """
    from csi_plugin.controller.lookups import iterate

    omitted: list[Omitted] = []
    with metadata(settings) as store:
        # After the library has been set up, which the modules of Cinder want.
        from csi_plugin.storage.migration import ember_csi

        api = ember_csi.open_api(namespace=namespace, kubeconfig=str(kubeconfig) if kubeconfig else None)
        _show(ember_csi.import_records(api, store, omitted=omitted.append))
        backends = Counter(volume.backend for volume in iterate(store, VolumeRecord))
    for one in omitted:
        say(f"left out: {one.kind} {one.name}: {one.reason}")
    for name, count in sorted(backends.items()):
        say(f"volumes on backend {name}, which the settings have to name so: {count}")
    if any(one.is_lost for one in omitted):
        raise typer.Exit(1)


def generate_key() -> None:
    """Print a new key for sealing secrets at rest, for the file that `sealing_keys_file` names."""
    from csi_plugin.persistence.sealing import generate_key as new_key

    print(new_key())


def ensure_sealing_keys(
    secret: Annotated[str, typer.Option(help="Name of the Secret.")],
    file: Annotated[Path, typer.Option(help="Where the keys are written, for `sealing_keys_file`.")],
    entry: Annotated[str, typer.Option(help="Entry of the Secret that holds the keys.")] = "keys",
    namespace: Annotated[str | None, typer.Option(help="By default the pod's, or kubectl's.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="By default the pod's, or kubectl's.")] = None,
) -> None:
    """Write the sealing keys of a Secret to a file; a Secret that is absent is made with a new key, once for ever.

    The controller's pod does it before it serves. Exit status 1: there are no keys, and none may be made.
    """
    from csi_plugin.persistence.base import InvalidPersistence, PersistenceError
    from csi_plugin.persistence.crd.sealing_secret import read_or_create_keys

    try:
        keys = read_or_create_keys(
            secret, entry, namespace=namespace, kubeconfig=str(kubeconfig) if kubeconfig else None
        )
    except (PersistenceError, InvalidPersistence) as error:
        typer.echo(f"cinderbox: {error}", err=True)
        raise typer.Exit(1) from None
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as target:
        target.write(keys)


def reseal(settings: SettingsOption = None) -> None:
    """Seal all secrets with the first of the keys. Afterwards the other keys are not needed any more."""
    from csi_plugin.persistence.sealing import SealingStore

    with metadata(settings) as store:
        if not isinstance(store, SealingStore):
            complain("no sealing keys are set (sealing_keys_file, or CINDERBOX_SEALING_KEYS)")
            raise typer.Exit(EXIT_SETTINGS)
        print(f"{store.reseal()} records were resealed")


def _show(steps: "Iterable[Progress]") -> None:
    """A bar for each kind of record while they are copied."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    with Bars(TextColumn("{task.description}: {task.completed} records"), BarColumn()) as bars:
        tasks: dict[str, Any] = {}
        for step in steps:
            if step.kind not in tasks:
                tasks[step.kind] = bars.add_task(step.kind, total=step.total)
            description = f"{step.kind} ({step.skipped} were there)" if step.skipped else step.kind
            total = None if step.total is None else step.total - step.skipped
            bars.update(tasks[step.kind], completed=step.copied, total=total, description=description)


def _parse(text: str) -> dict[str, Any]:
    try:
        config = json.loads(text)
    except ValueError as error:
        config = str(error)
    if not isinstance(config, dict):
        complain("TARGET must be a JSON object with `storage` and its arguments")
        raise typer.Exit(EXIT_SETTINGS)
    if (config.get("storage") or "memory") in ("memory", "memory_db"):
        complain("TARGET: what is copied to memory is gone when this command ends; `storage` has to name another place")
        raise typer.Exit(EXIT_SETTINGS)
    return config
