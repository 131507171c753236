"""A new versioned object of Cinder's: its fields checked, and filled with their defaults."""

import logging
import re
import uuid
from collections.abc import Mapping
from typing import Any

from oslo_utils import timeutils, uuidutils

from csi_plugin.storage.cinder import objects_base
from csi_plugin.storage.cinder.runtime import CONTEXT
from csi_plugin.storage.library_state import STATE
from csi_plugin.suggestions import did_you_mean

LOG = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}")  # as long as the id columns of Cinder's schema


def new_versioned_object(ovo_class: Any, fields: Mapping[str, Any], *, described_as: str) -> Any:
    """An object of Cinder's class with these fields. Raises ValueError for an id.

    What is no field is logged, and becomes an attribute of the object that is not stored, as in cinderlib. TypeError
    is raised for the name of something else that Cinder's objects have.
    """
    known = ovo_class.fields
    values = {name: value for name, value in fields.items() if name in known}
    others = {name: value for name, value in fields.items() if name not in known}
    for name in others:
        hint = did_you_mean(name, known)
        if not name.isidentifier() or name.startswith("_") or hasattr(ovo_class, name):
            raise TypeError(f"{described_as} has no field {name!r}{hint}")
        LOG.warning("%s has no field %r: it is kept on the object and not stored%s", described_as, name, hint)
    values["id"] = _valid_id(values.get("id"))
    for name, kind in known.items():
        if kind.default != objects_base.fields.UnspecifiedDefault:
            values.setdefault(name, kind.default)
        elif kind.nullable:
            values.setdefault(name, None)
    if not values.get("created_at"):
        values["created_at"] = timeutils.utcnow(with_timezone=True)
    for owner in ("user_id", "project_id"):
        if owner in known and not values.get(owner):
            values[owner] = getattr(CONTEXT, owner)
    ovo = ovo_class(context=CONTEXT, **values)
    vars(ovo).update(others)
    return ovo


def _valid_id(given: Any) -> str:
    """A new id, or the given one. Drivers build names of files and commands of it, so it has to be a UUID, or what can
    do no harm in a name if setup allowed others."""
    if not given:
        return str(uuid.uuid4())
    if isinstance(given, uuid.UUID):
        return str(given)
    if isinstance(given, str) and uuidutils.is_uuid_like(given):
        return given
    if not STATE.non_uuid_ids:
        raise ValueError(f"id must be a UUID (setup's non_uuid_ids allows other texts), not {given!r}")
    if not isinstance(given, str) or not _ID.fullmatch(given):
        raise ValueError(
            "id must have 1 to 36 letters, digits, dots, dashes and underscores, and begin with a letter or digit, "
            f"not {given!r}"
        )
    return given
