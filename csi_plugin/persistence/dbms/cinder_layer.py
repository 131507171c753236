"""Cinder's own database layer on our engine, with secrets in clear for the drivers that read and write through it.

Cinder's layer is a module with one engine per process; ``point_at`` gives it the engine of a store. Secret columns
that we sealed are opened as Cinder's ORM loads a row, whatever function asked for it, and sealed as it writes one.
"""

import json
import threading
import weakref
from typing import Any

import sqlalchemy as sa
from oslo_config import cfg
from oslo_db.sqlalchemy import enginefacade, orm
from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, attributes

from csi_plugin.persistence.dbms import cinder_models
from csi_plugin.persistence.dbms.cinder_models import models
from csi_plugin.persistence.dbms.layouts import LAYOUTS, SEALED, Layout
from csi_plugin.persistence.records import ConnectionRecord, SnapshotRecord, VolumeRecord
from csi_plugin.persistence.sealing import Sealer, SealingError

_LAYOUTS: dict[Any, Layout] = {
    models.Volume: LAYOUTS[VolumeRecord],
    models.Snapshot: LAYOUTS[SnapshotRecord],
    models.VolumeAttachment: LAYOUTS[ConnectionRecord],
}

_stores: "weakref.WeakKeyDictionary[sa.Engine, Any]" = weakref.WeakKeyDictionary()
_lock = threading.Lock()
_listening = False


def api() -> Any:
    """Cinder's database layer: the module ``cinder.db.api``."""
    return cinder_models.api


def point_at(engine: sa.Engine, store: Any) -> None:
    """Let Cinder's layer work on ``engine``; ``store.sealer``, if any, opens and seals its secret columns."""
    with _lock:
        _listen()
        manager = cinder_models.api.main_context_manager
        if manager.is_started and manager.writer.get_engine() is engine:
            return
        _stores[engine] = weakref.proxy(store)
        url = engine.url.render_as_string(hide_password=False)
        cfg.CONF.set_override("connection", url, "database")
        maker = orm.get_maker(engine=engine)
        event.listen(maker, "do_orm_execute", _before_update)
        # oslo.db has no other way to use an engine that is there; its class for that is made for test suites.
        manager.patch_factory(
            enginefacade._TestTransactionFactory(engine, maker, apply_global=False, from_factory=manager._factory)
        )


def _listen() -> None:
    """Watch Cinder's three models that have secrets, once per process."""
    global _listening
    if _listening:
        return
    for model in _LAYOUTS:
        event.listen(model, "load", lambda target, context: _open(context.session.connection(), target))
        event.listen(model, "refresh", lambda target, context, _: _open(context.session.connection(), target))
        event.listen(model, "before_insert", _seal_object)
        event.listen(model, "before_update", _seal_object)
        event.listen(model, "after_insert", lambda mapper, connection, target: _open(connection, target))
        event.listen(model, "after_update", lambda mapper, connection, target: _open(connection, target))
    event.listen(models.Volume, "after_insert", _note_backend)
    _listening = True


def _open(connection: sa.Connection, target: Any) -> None:
    """Put the clear value where the column says that it is sealed."""
    layout, name = _layout_and_secret(type(target))
    if target.__dict__.get(name) != SEALED[name]:
        return
    sealer, associated_data = _sealer_of(connection), f"{layout.kind.KIND}/{target.id}/{name}"
    if sealer is None:
        raise SealingError(f"{associated_data} is sealed and no key is configured")
    sealed = connection.execute(sa.select(layout.extra.c[name]).where(layout.extra.c.id == target.id)).scalar()
    try:
        value = sealer.unseal_field(sealed, associated_data=associated_data)
    except SealingError:
        if name == "connection_info":
            return  # drivers find what stands in the column, which is JSON
        value = sealed
    attributes.set_committed_value(target, name, value if isinstance(value, str | None) else json.dumps(value))


def _seal_object(mapper: Any, connection: sa.Connection, target: Any) -> None:
    """Seal the secret of an object that Cinder's layer is about to write."""
    layout, name = _layout_and_secret(type(target))
    sealer = _sealer_of(connection)
    if sealer and getattr(target, name) is not None and attributes.get_history(target, name).has_changes():
        _write_sealed(connection, sealer, layout, target.id, getattr(target, name))
        setattr(target, name, SEALED[name])


def _note_backend(mapper: Any, connection: sa.Connection, target: Any) -> None:
    """Let a volume that Cinder's layer created be found by its backend."""
    backend = VolumeRecord(id=target.id, host=target.host or "").backend
    _write_extra(connection, LAYOUTS[VolumeRecord], target.id, {"backend": backend})


def _before_update(state: ORMExecuteState) -> None:
    """Seal the secret among the values of an UPDATE statement of Cinder's layer; follow a volume to another host."""
    model = state.bind_mapper.class_ if state.is_update and state.bind_mapper else None
    if model not in _LAYOUTS:
        return
    statement: Any = state.statement
    layout, name = _layout_and_secret(model)
    values = statement.compile().params
    connection = state.session.connection()
    sealer = _sealer_of(connection) if values.get(name) is not None else None
    host = values.get("host") if model is models.Volume else None
    if sealer is None and host is None:
        return
    for (record_id,) in connection.execute(sa.select(layout.id).where(statement.whereclause)).all():
        if sealer is not None:
            _write_sealed(connection, sealer, layout, record_id, values[name])
        if host is not None:
            _write_extra(connection, layout, record_id, {"backend": VolumeRecord(id=record_id, host=host).backend})
    if sealer is not None:
        state.statement = statement.values({name: SEALED[name]})


def _write_sealed(connection: sa.Connection, sealer: Sealer, layout: Layout, record_id: str, value: str) -> None:
    name = str(layout.secret)
    plain = json.loads(value) if name == "connection_info" else value
    text = sealer.seal_field(plain, associated_data=f"{layout.kind.KIND}/{record_id}/{name}")
    _write_extra(connection, layout, record_id, {name: text})


def _write_extra(connection: sa.Connection, layout: Layout, record_id: str, values: dict[str, Any]) -> None:
    extra = layout.extra
    if connection.execute(extra.update().where(extra.c.id == record_id).values(values)).rowcount == 0:
        connection.execute(extra.insert(), {"id": record_id, "revision": 1, **values})


def _layout_and_secret(model: Any) -> tuple[Layout, str]:
    layout = _LAYOUTS[model]
    return layout, str(layout.secret)


def _sealer_of(connection: sa.Connection) -> Sealer | None:
    store = _stores.get(connection.engine)
    sealer: Sealer | None = store.sealer if store else None
    return sealer
