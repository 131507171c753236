"""Cinder's own database layer on our engine, with secrets in clear for the drivers that read and write
through it.

Cinder's layer is a module with one engine per process. ``point_at`` gives it the engine of a store. Secret
columns that we sealed are opened as Cinder's ORM loads a row, whatever function asked for it; the functions
of the layer that write such columns are wrapped once, and seal.
"""

import functools
import json
import threading
import uuid
import weakref
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from oslo_config import cfg
from oslo_db.sqlalchemy import enginefacade, orm
from sqlalchemy import event
from sqlalchemy.orm import attributes

from csi_plugin.persistence.dbms import cinder_models
from csi_plugin.persistence.dbms.cinder_models import models
from csi_plugin.persistence.dbms.rows import LAYOUTS, SEALED, Layout
from csi_plugin.persistence.records import ConnectionRecord, SnapshotRecord, VolumeRecord
from csi_plugin.persistence.sealing import Sealer, SealingError

_LAYOUTS: dict[Any, Layout] = {
    models.Volume: LAYOUTS[VolumeRecord],
    models.Snapshot: LAYOUTS[SnapshotRecord],
    models.VolumeAttachment: LAYOUTS[ConnectionRecord],
}
_WRITERS = {
    "volume_create": models.Volume,
    "volume_update": models.Volume,
    "snapshot_create": models.Snapshot,
    "snapshot_update": models.Snapshot,
    "volume_attach": models.VolumeAttachment,
    "volume_attachment_update": models.VolumeAttachment,
}
"""Functions of the layer that take the values of a row, as (context, values) or (context, id, values)."""

_stores: "weakref.WeakKeyDictionary[sa.Engine, Any]" = weakref.WeakKeyDictionary()
_lock = threading.Lock()
_installed = False


def api() -> Any:
    """Cinder's database layer: the module ``cinder.db.api``."""
    return cinder_models.api


def point_at(engine: sa.Engine, store: Any) -> None:
    """Let Cinder's layer work on ``engine``; ``store.sealer``, if any, opens and seals its secret columns."""
    with _lock:
        _install()
        _stores[engine] = weakref.proxy(store)
        url = engine.url.render_as_string(hide_password=False)
        cfg.CONF.set_override("connection", url, "database")
        # oslo.db has no other way to use an engine that is there; its class for that is made for test suites.
        manager = cinder_models.api.main_context_manager
        manager.patch_factory(
            enginefacade._TestTransactionFactory(
                engine, orm.get_maker(engine=engine), apply_global=False, from_factory=manager._factory
            )
        )


def _install() -> None:
    global _installed
    if _installed:
        return
    for model in _LAYOUTS:
        event.listen(model, "load", _open_secret)
        event.listen(model, "refresh", lambda target, context, _names: _open_secret(target, context))
    for name, model in _WRITERS.items():
        setattr(cinder_models.api, name, _sealing(getattr(cinder_models.api, name), model))
    _installed = True


def _open_secret(target: Any, context: Any) -> None:
    layout = _LAYOUTS[type(target)]
    name = str(layout.secret)
    if target.__dict__.get(name) != SEALED[name]:
        return
    sealed = context.session.connection().execute(_sealed_value(layout, target.id)).scalar()
    sealer = _sealer_of(context.session.get_bind())
    if sealer is None:
        raise SealingError(f"{layout.kind.KIND}/{target.id}/{name} is sealed and no key is configured")
    value = sealer.unseal_field(sealed, context=f"{layout.kind.KIND}/{target.id}/{name}")
    attributes.set_committed_value(target, name, value if isinstance(value, str | None) else json.dumps(value))


def _sealed_value(layout: Layout, record_id: str) -> Any:
    return sa.select(layout.extra.c[str(layout.secret)]).where(layout.extra.c.id == record_id)


def _sealer_of(engine: Any) -> Sealer | None:
    store = _stores.get(engine)
    sealer: Sealer | None = store.sealer if store else None
    return sealer


def _sealing(function: Callable[..., Any], model: Any) -> Callable[..., Any]:
    """Seal the secret among the values that a function of Cinder's layer writes, in the same transaction."""
    layout = _LAYOUTS[model]
    name = str(layout.secret)

    @functools.wraps(function)
    def sealed(context: Any, *arguments: Any, **keywords: Any) -> Any:
        manager = cinder_models.api.main_context_manager
        *ids, values = arguments if "values" not in keywords else (*arguments, keywords.pop("values"))
        sealer = _sealer_of(manager.writer.get_engine())
        secret = values.get(name)
        if sealer is None or secret is None:
            return function(context, *ids, values, **keywords)
        values = dict(values)
        record_id = ids[0] if ids else values.get("id")
        if record_id is None:
            record_id = values["id"] = str(uuid.uuid4())
        if name == "connection_info":
            secret = json.loads(secret)
        with manager.writer.using(context) as session:
            text = sealer.seal_field(secret, context=f"{layout.kind.KIND}/{record_id}/{name}")
            _store_sealed(session.connection(), layout, record_id, text)
            return function(context, *ids, values | {name: SEALED[name]}, **keywords)

    return sealed


def _store_sealed(connection: sa.Connection, layout: Layout, record_id: str, text: str | None) -> None:
    extra, name = layout.extra, str(layout.secret)
    updated = connection.execute(extra.update().where(extra.c.id == record_id).values({name: text}))
    if updated.rowcount == 0:
        connection.execute(extra.insert(), {"id": record_id, "revision": 1, name: text})
