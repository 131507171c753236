"""``cinderbox volumes``: what the metadata says, read without the serving process, and adopting volumes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from csi_plugin.cli import adoption
from csi_plugin.cli.output import Output, OutputOption, age, complain, say, show
from csi_plugin.cli.settings_source import SettingsOption, load_settings, metadata
from csi_plugin.persistence.base import PersistenceError, RecordStore
from csi_plugin.persistence.encoding import to_json
from csi_plugin.persistence.records import ConnectionRecord, SnapshotRecord, VolumeRecord

if TYPE_CHECKING:
    from csi_plugin.controller.recovery.orphans import Orphan

app = typer.Typer(help="Look at the metadata of volumes, and adopt what the storage holds.", no_args_is_help=True)
app.command()(adoption.manageable)
app.command()(adoption.adopt)


@app.command("list")
def list_volumes(settings: SettingsOption = None, output: OutputOption = Output.TABLE) -> None:
    """Volumes, by id."""
    from csi_plugin.controller.lookups import iterate

    with metadata(settings) as store:
        nodes: dict[str, list[str]] = {}
        for connection in iterate(store, ConnectionRecord):
            nodes.setdefault(connection.volume_id, []).append(connection.node_id or connection.attached_host or "?")
        rows = [
            {
                "id": volume.id,
                "name": volume.display_name,
                "status": volume.status,
                "gib": volume.size,
                "backend": volume.backend,
                "pool": volume.pool,
                "nodes": ", ".join(sorted(nodes.get(volume.id, []))),
                "created": volume.created_at,
            }
            for volume in iterate(store, VolumeRecord)
        ]
    show(rows, output, empty="no volumes")


@app.command("show")
def show_volume(volume_id: str, settings: SettingsOption = None) -> None:
    """Everything that is recorded of a volume, its snapshots and connections, as JSON without secrets."""
    from csi_plugin.server.redaction import redact

    with metadata(settings) as store:
        volume = store.get(VolumeRecord, volume_id)
        if volume is None:
            raise _unknown(volume_id)
        snapshots = store.find(SnapshotRecord, volume_id=volume_id)
        connections = store.find(ConnectionRecord, volume_id=volume_id)
    shown: dict[str, Any] = _public(volume, to_json(volume))
    shown["snapshots"] = [_public(snapshot, to_json(snapshot)) for snapshot in snapshots]
    shown["connections"] = [_public(connection, to_json(connection)) for connection in connections]
    print(json.dumps(redact(shown, bounded=False), indent=2, default=str))


@app.command()
def orphans(settings: SettingsOption = None, output: OutputOption = Output.TABLE) -> None:
    """What interrupted or failed operations may have left on the storage, deletions that wait and, in Kubernetes,
    volumes that no PersistentVolume refers to."""
    from csi_plugin.controller.recovery.orphans import list_orphans

    with metadata(settings) as store:
        found = list_orphans(store) + _unreferenced(store, settings)
    show([asdict(orphan) | {"age": age(orphan.created)} for orphan in found], output, empty="no orphans")


app.command("leftovers", help="The same as `orphans`: its earlier name.")(orphans)


@app.command()
def forget(
    orphan_id: Annotated[str, typer.Argument(help="Id of an orphan, as `orphans` lists it.")],
    settings: SettingsOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Drop the record of an orphan. Nothing on the storage is touched: remove that first, or adopt it."""
    from csi_plugin.controller.recovery.orphans import forget_orphan, list_orphans

    with metadata(settings) as store:
        found = next((orphan for orphan in list_orphans(store) if orphan.id == orphan_id), None)
        if found is None:
            raise _unknown(orphan_id, what="orphan")
        say(f"{found.kind} {found.id} ({found.name}) on backend {found.backend}: {found.condition}")
        if not yes:
            typer.confirm("Forget it?", abort=True)
        forget_orphan(store, found)


@app.command()
def release(
    volume_id: Annotated[str, typer.Argument(help="Id of a volume that is published to the node.")],
    node_id: Annotated[str, typer.Argument(help="A node that has it staged, and is heard of.")],
    settings: SettingsOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let a volume on a share be unpublished from a node that has not unstaged it. Unmount it there first: whatever the
    node still writes destroys what another one does."""
    from csi_plugin.controller.lost_nodes import release

    with metadata(settings) as store:
        if not yes:
            typer.confirm(f"Does nothing on node {node_id} write to volume {volume_id} any more?", abort=True)
        if not release(store, volume_id, node_id):
            complain(f"volume {volume_id} is not published to node {node_id}")
            raise typer.Exit(1)


def _unreferenced(store: RecordStore, settings: Path | None) -> "list[Orphan]":
    where = load_settings(settings).persistence
    if where.get("storage") != "crd":
        return []
    from csi_plugin.controller.unreferenced_volumes import list_unreferenced
    from csi_plugin.persistence.crd.api import ResourceAPI
    from csi_plugin.persistence.crd.kinds import GROUP, VERSION

    api = ResourceAPI(GROUP, VERSION, namespace=where.get("namespace"), kubeconfig=where.get("kubeconfig"))
    try:
        return list_unreferenced(store, api)
    except PersistenceError as error:
        complain(f"volumes without a PersistentVolume are not known: {error}")
        return []
    finally:
        api.close()


@app.command()
def settle(
    settings: SettingsOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Say that what the last controller had told the storage has ended. Until settle_seconds after its lease ran out,
    the volumes and snapshots that it was working on are left alone."""
    from csi_plugin.controller.recovery.predecessor import settle

    with metadata(settings) as store:
        if not yes:
            typer.confirm("Has all ended that the last controller was doing in the storage?", abort=True)
        held = settle(store)
    say("\n".join(held) or "nothing is held")


def _public(record: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """A record without its secret fields, and without those that are empty."""
    return {name: value for name, value in fields.items() if name not in record.SECRET and value not in (None, {}, [])}


def _unknown(record_id: str, *, what: str = "volume") -> typer.Exit:
    complain(f"no {what} has the id {record_id}")
    return typer.Exit(1)
