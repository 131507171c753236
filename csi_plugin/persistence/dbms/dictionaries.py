"""The dict fields of records, which Cinder keeps as rows of key and value: all of a page's in two statements."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa

from csi_plugin.persistence.dbms import volume_types
from csi_plugin.persistence.dbms.layouts import LAYOUTS, TYPE_SPECS, Dictionary
from csi_plugin.persistence.encoding import utc_now
from csi_plugin.persistence.records import Record, VolumeRecord

_CHUNK = 500  # ids in one statement

Content = dict[str, dict[str, str]]
"""Field name to the dict that a record has there."""


def load(connection: sa.Connection, kind: type[Record], owners: Sequence[tuple[str, str | None]]) -> dict[str, Content]:
    """The dict fields of some records of a kind, each given as its id and the volume type that its specs are from."""
    names = [dictionary.field for dictionary in LAYOUTS[kind].dictionaries]
    found: dict[str, Content] = {record_id: {name: {} for name in names} for record_id, _ in owners}
    if not names:
        return found
    for ids in _chunks(list(found)):
        for number, record_id, key, value in connection.execute(_entries(kind.KIND), {"ids": ids}):
            found[record_id][names[number]][key] = value
    if kind is not VolumeRecord:
        return found
    volumes_of_type: defaultdict[str, list[str]] = defaultdict(list)
    for volume_id, type_id in owners:
        if type_id:
            volumes_of_type[type_id].append(volume_id)
    for ids in _chunks(list(volumes_of_type)):
        for number, type_id, key, value in connection.execute(_type_specs(), {"ids": ids}):
            for volume_id in volumes_of_type[type_id]:
                found[volume_id][TYPE_SPECS[number].field][key] = value
    return found


def insert(connection: sa.Connection, dictionary: Dictionary, owner_id: str, entries: dict[str, str]) -> None:
    """Write the entries of one field of a record that has none yet."""
    if entries:
        common = {
            dictionary.owner.name: owner_id,
            "deleted": False,
            "created_at": utc_now().replace(tzinfo=None, microsecond=0),
        }
        rows = [common | {"key": key, "value": value} for key, value in entries.items()]
        connection.execute(dictionary.table.insert(), rows)


def _chunks(ids: list[str]) -> Iterable[list[str]]:
    return (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))


@cache
def _entries(kind_name: str) -> Any:
    """Rows of: number of the dictionary, owner's id, key, value."""
    [layout] = (layout for layout in LAYOUTS.values() if kind_name == layout.kind.KIND)
    selects = [
        sa.select(sa.literal_column(str(number)), dictionary.owner, dictionary.table.c.key, dictionary.table.c.value)
        .where(dictionary.owner.in_(_ids()))
        .where(dictionary.table.c.deleted.is_not(sa.true()))
        for number, dictionary in enumerate(layout.dictionaries)
        if dictionary not in TYPE_SPECS
    ]
    return sa.union_all(*selects) if len(selects) > 1 else selects[0]


@cache
def _type_specs() -> Any:
    """Rows of: 0 for extra specs and 1 for QoS specs, volume type's id, key, value."""
    types, extra_specs, qos = volume_types.TYPES, volume_types.EXTRA_SPECS, volume_types.QOS
    return sa.union_all(
        sa.select(sa.literal_column("0"), extra_specs.c.volume_type_id, extra_specs.c.key, extra_specs.c.value).where(
            extra_specs.c.volume_type_id.in_(_ids()), extra_specs.c.deleted.is_not(sa.true())
        ),
        sa.select(sa.literal_column("1"), types.c.id, qos.c.key, qos.c.value)
        .join(qos, qos.c.specs_id == types.c.qos_specs_id)
        .where(types.c.id.in_(_ids()), qos.c.deleted.is_not(sa.true()), qos.c.key != volume_types.CONSUMER),
    )


def _ids() -> sa.BindParameter[Any]:
    return sa.bindparam("ids", expanding=True)
