"""Cinder's objects that refer to each other in circles, as the library's do: a volume's snapshots know their volume.

Cinder's own never do, so what walks through them would not end: looking for changes, comparing, making them plain data.
"""

import copy
from contextvars import ContextVar
from typing import Any

from cinder import objects
from cinder.objects import base as objects_base

_walked: ContextVar[frozenset[int]] = ContextVar("walked", default=frozenset())
"""Of the objects that are being made plain data, one inside the other, the ids."""
_RELATIVES = ("volume", "snapshots", "volume_attachment", "volumes", "group", "group_snapshot")


def install() -> None:
    """Let the walks end. Repeatable."""
    for relatives in (objects.SnapshotList, objects.VolumeAttachmentList):
        # Each of a volume's relatives has a record of its own, so a list of them never counts as changed: Cinder's
        # save() raises for a volume whose snapshots look changed.
        relatives.obj_what_changed = lambda self: set()
    for kind in (objects.Volume, objects.Snapshot, objects.VolumeAttachment, objects.Group, objects.GroupSnapshot):
        if "obj_to_primitive" not in vars(kind):
            _end_walks(kind)


def _end_walks(kind: Any) -> None:
    to_primitive = kind.obj_to_primitive

    def obj_to_primitive(self: Any, *args: Any, **kwargs: Any) -> Any:
        """Each object once on a path: a relative inside which this one stands is left out."""
        walked = _walked.get()
        token = _walked.set(walked | {id(self)})
        try:
            return to_primitive(_without(self, walked), *args, **kwargs)
        finally:
            _walked.reset(token)

    kind.obj_to_primitive = obj_to_primitive


def _without(ovo: Any, walked: frozenset[int]) -> Any:
    """The object, or a copy of it without its relatives that are walked through."""
    values, is_whole = dict(vars(ovo)), True
    for name in _RELATIVES:
        attribute = f"_obj_{name}"
        value = values.get(attribute)
        if id(value) in walked:
            del values[attribute]
            is_whole = False
        elif isinstance(value, objects_base.ObjectListBase):
            kept = [item for item in value.objects if id(item) not in walked]
            if len(kept) < len(value.objects):
                values[attribute] = type(value)(objects=kept)
                is_whole = False
    if is_whole:
        return ovo
    shown = copy.copy(ovo)
    vars(shown).clear()
    vars(shown).update(values)
    return shown
