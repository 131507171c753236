"""``cinderbox volumes manageable`` and ``adopt``: what the storage had before Cinderbox."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csi_plugin.cli.output import Output, OutputOption, complain, show
from csi_plugin.cli.settings_source import EXIT_SETTINGS, SettingsOption, load_settings, metadata

if TYPE_CHECKING:
    from csi_plugin.server.settings import Settings
    from csi_plugin.storage.backend import Backend
    from csi_plugin.storage.backend_configuration import BackendConfiguration

BackendArgument = Annotated[str, typer.Argument(help="Name of a backend.")]


def manageable(backend: BackendArgument, settings: SettingsOption = None, output: OutputOption = Output.TABLE) -> None:
    """What a backend's storage holds, as its driver lists it, and whether it can be adopted."""
    with _start_backend(backend, settings) as started, _driver_errors():
        rows = [
            {
                "reference": json.dumps(found["reference"]),
                "gib": found["size"],
                "adoptable": found["safe_to_manage"],
                "reason": found["reason_not_safe"],
                "id": found["cinder_id"],
            }
            for found in started.manageable_volumes()
        ]
    show(rows, output, empty="nothing")


def adopt(
    backend: BackendArgument,
    reference: Annotated[
        str, typer.Argument(help='As `manageable` lists it: JSON such as {"source-name": "lun7"}, or only the name.')
    ],
    name: Annotated[str, typer.Option(help="Name of the volume in the metadata.")] = "",
    grow: Annotated[
        bool, typer.Option("--grow", help="Grow a volume that is no whole number of GiB to the next one.")
    ] = False,
    settings: SettingsOption = None,
) -> None:
    """Make a volume of what the storage holds, and print its id: the volumeHandle of a PersistentVolume.

    The driver may rename it in the storage. Run it where the active controller runs, and when nothing uses the volume.
    One that was interrupted is in the list of orphans, until the same command is run again.
    """
    with _start_backend(backend, settings) as started, _driver_errors():
        print(started.manage_existing(_parse_reference(reference), name=name or backend, grow=grow).id)


@contextmanager
def _start_backend(name: str, settings: Path | None) -> "Iterator[Backend]":
    """The backend, started in this process beside the one that serves."""
    with metadata(settings):
        with _driver_errors():
            configuration = _configuration(name, load_settings(settings))
        if configuration is None:
            complain(f"backend {name} is not configured")
            raise typer.Exit(EXIT_SETTINGS)
        from csi_plugin.storage.backend import Backend

        with _driver_errors():
            backend = Backend(**configuration.arguments())
        try:
            yield backend
        finally:
            backend.close()


def _configuration(name: str, settings: "Settings") -> "BackendConfiguration | None":
    """Of a backend of the settings, or of a CinderBackend. The metadata has to be open."""
    from csi_plugin.server.backend_configurations import backend_configurations
    from csi_plugin.storage.backend import Backend

    for configuration in backend_configurations(settings):
        if configuration.name == name:
            return configuration
    if settings.persistence.get("storage") != "crd":
        return None
    from csi_plugin.server.cinder_backend_configuration import configuration_of

    resources = Backend.persistence.backends
    resources.start(lambda: None)
    desired = next((found for found in resources.all() if found.name == name), None)
    return configuration_of(desired, resources, topologies=settings.topologies) if desired else None


@contextmanager
def _driver_errors() -> Iterator[None]:
    """What a driver raises, which can be anything, ends the command with one line."""
    try:
        yield
    except typer.Exit:
        raise
    except Exception as error:  # noqa: BLE001
        complain(str(error).strip() or type(error).__name__)
        raise typer.Exit(1) from None


def _parse_reference(reference: str) -> dict[str, Any] | str:
    if not reference.lstrip().startswith("{"):
        return reference
    try:
        parsed: dict[str, Any] = json.loads(reference)
    except ValueError as error:
        complain(f"REFERENCE is no JSON object: {error}")
        raise typer.Exit(EXIT_SETTINGS) from None
    return parsed
