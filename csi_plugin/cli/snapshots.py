"""``cinderbox snapshots``: snapshots of the metadata against those that Kubernetes knows."""

from dataclasses import asdict

import typer

from csi_plugin.cli.output import Output, OutputOption, age, complain, show
from csi_plugin.cli.settings_source import EXIT_SETTINGS, SettingsOption, load_settings, metadata, readable_errors

app = typer.Typer(help="Compare snapshots with what Kubernetes knows of them.", no_args_is_help=True)


@app.callback()
def snapshots() -> None:
    """Compare snapshots with what Kubernetes knows of them."""


@app.command()
def orphans(settings: SettingsOption = None, output: OutputOption = Output.TABLE) -> None:
    """Snapshots that no VolumeSnapshotContent or VolumeGroupSnapshotContent refers to, as backups may leave them.

    To delete one, make a VolumeSnapshotContent with its id as the snapshotHandle and the deletionPolicy Delete, and
    delete that with its VolumeSnapshot.
    """
    from csi_plugin.controller.unreferenced_snapshots import list_unreferenced
    from csi_plugin.persistence.crd.api import ResourceAPI
    from csi_plugin.persistence.crd.kinds import GROUP, VERSION

    loaded = load_settings(settings)
    if loaded.persistence.get("storage") != "crd":
        complain("persistence: only with crd the metadata has a Kubernetes to compare with")
        raise typer.Exit(EXIT_SETTINGS)
    namespace, kubeconfig = loaded.persistence.get("namespace"), loaded.persistence.get("kubeconfig")
    with metadata(settings) as store, readable_errors():
        api = ResourceAPI(GROUP, VERSION, namespace=namespace, kubeconfig=kubeconfig)
        try:
            found = list_unreferenced(store, api, driver_name=loaded.driver_name)
        finally:
            api.close()
    show([asdict(orphan) | {"age": age(orphan.created)} for orphan in found], output, empty="no orphans")
