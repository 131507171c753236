"""``cinderbox nodes``: the registered nodes, read without the serving process."""

from collections import Counter

from csi_plugin.cli.output import Output, OutputOption, age, show
from csi_plugin.cli.settings_source import SettingsOption, metadata
from csi_plugin.persistence.records import ConnectionRecord, NodeRecord


def nodes(settings: SettingsOption = None, output: OutputOption = Output.TABLE) -> None:
    """List the registered nodes: who each is for the storage, how many volumes are published to it, and how long ago it
    was heard of. One that was not for node_expiry_hours, and has no volume, is forgotten."""
    from csi_plugin.controller.lookups import iterate

    with metadata(settings) as store:
        published = Counter(connection.node_id for connection in iterate(store, ConnectionRecord))
        rows = [
            {
                "id": node.id,
                "initiator": node.connector.get("initiator"),
                "ip": node.connector.get("ip"),
                "volumes": published[node.id],
                "limit": node.max_volumes,
                "heard_of": age(node.updated_at or node.created_at),
            }
            for node in iterate(store, NodeRecord)
        ]
    show(rows, output, empty="no nodes")
