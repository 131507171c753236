"""Set-up of the library: its flags, Cinder's runtime, and the store of its records. Once per process."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from csi_plugin.persistence import registry
from csi_plugin.persistence.base import DB, PersistenceDriverBase, RecordStore
from csi_plugin.persistence.builtin_plugin import BuiltinPlugin
from csi_plugin.persistence.memory import MemoryPersistence
from csi_plugin.persistence.sealing import Sealer, SealingStore
from csi_plugin.storage import codec, database
from csi_plugin.storage.cinder import runtime
from csi_plugin.storage.compatibility.cinderlib_plugin_store import CinderlibPluginStore
from csi_plugin.storage.compatibility.extended_plugin_store import ExtendedPluginStore, is_extended
from csi_plugin.storage.library_state import STATE

LOG = logging.getLogger(__name__)


def global_setup(
    file_locks_path: str | None = None,
    root_helper: str = "sudo",
    suppress_requests_ssl_warnings: bool = True,
    disable_logs: bool | None = True,
    non_uuid_ids: bool = False,
    output_all_backend_info: bool = False,
    project_id: str | None = None,
    user_id: str | None = None,
    persistence_config: Mapping[str, Any] | None = None,
    fail_on_missing_backend: bool = True,
    host: str | None = None,
    sealing_keys: Sequence[bytes] | None = None,
    **cinder_config_params: Any,
) -> None:
    """Set up the library, once and before the first Backend (which does it with defaults otherwise).

    ``file_locks_path``: directory of lock files, shared by the processes that use the same storage (default:
    ``locks`` in Cinder's ``state_path``); ``root_helper``: what runs commands as root when this process is not
    root; ``disable_logs``: silence the loggers of Cinder and its libraries, and only those (False: log as Cinder's
    options say, unless the root logger has handlers already; None: leave logging as it is); ``non_uuid_ids``:
    accept ids that are no UUIDs; ``output_all_backend_info``: dumps hold the backends' whole configuration;
    ``project_id`` and ``user_id``: recorded as the owner of what is created; ``persistence_config``: where metadata is
    kept (see ``set_persistence``); ``fail_on_missing_backend``: loading an object of an unknown backend is an
    error; ``host``: the name under which volumes are recorded (default: this machine's); ``sealing_keys``: keys
    that seal secret fields at rest (see csi_plugin.persistence.sealing; without any they are stored in clear);
    every other argument: an option of Cinder's [DEFAULT] section, or ``group.option``.

    Raises RuntimeError when it was done before, ValueError for an ill-typed option and InvalidPersistence.
    """
    with STATE.lock:
        if STATE.is_set_up:
            raise RuntimeError("Already setup")
        STATE.fail_on_missing_backend = fail_on_missing_backend
        STATE.output_all_backend_info = output_all_backend_info
        STATE.non_uuid_ids = non_uuid_ids
        STATE.project_id = project_id or runtime.DEFAULT_PROJECT_ID
        STATE.user_id = user_id or runtime.DEFAULT_USER_ID
        STATE.sealing_keys = sealing_keys
        runtime.configure(
            locks_path=file_locks_path,
            root_helper=root_helper,
            suppress_ssl_warnings=suppress_requests_ssl_warnings,
            disable_logs=disable_logs,
            non_uuid_ids=non_uuid_ids,
            project_id=project_id,
            user_id=user_id,
            host=host,
            options=cinder_config_params,
        )
        _use_persistence(persistence_config)
        STATE.is_set_up = True


def set_persistence(persistence_config: Mapping[str, Any] | None) -> None:
    """Keep metadata elsewhere from now on. Nothing is copied: ``dump`` and ``load(..., save=True)`` do that.

    ``persistence_config``: ``storage`` (a plugin's name, class or instance; memory by default) and its arguments.
    Raises RuntimeError before the set-up, and InvalidPersistence; the plugin in use stays then.
    """
    with STATE.lock:
        if not STATE.is_set_up:
            raise RuntimeError("set_persistence can only be called after the library has been set up")
        _use_persistence(persistence_config)
        for backend in STATE.backends.values():
            backend._known_volumes.forget()


def _use_persistence(persistence_config: Mapping[str, Any] | None) -> None:
    use_plugin(registry.load_plugin(persistence_config))


def use_plugin(plugin: RecordStore | PersistenceDriverBase) -> None:
    """Keep metadata in this plugin from now on."""
    store = _as_store(plugin)
    if STATE.sealing_keys:
        store = SealingStore(store, Sealer(STATE.sealing_keys))
    else:
        _warn_of_clear_secrets(plugin)
    if isinstance(plugin, BuiltinPlugin) and is_extended(plugin):
        store = ExtendedPluginStore(store, plugin, codec)
    STATE.persistence, STATE.store = plugin, store
    STATE.shares_objects = isinstance(plugin, MemoryPersistence)
    STATE.objects_in_use.clear()
    if isinstance(getattr(plugin, "db", None), DB | None):
        database.use_store(store)
    else:
        database.use_cinder_layer()


def _as_store(plugin: RecordStore | PersistenceDriverBase) -> RecordStore:
    if isinstance(plugin, BuiltinPlugin):
        plugin.codec = codec
    if isinstance(plugin, RecordStore):
        return plugin
    return CinderlibPluginStore(plugin, codec)


_warned_of_clear_secrets = False


def _warn_of_clear_secrets(plugin: Any) -> None:
    global _warned_of_clear_secrets
    if not _warned_of_clear_secrets and not isinstance(plugin, MemoryPersistence):
        _warned_of_clear_secrets = True
        LOG.warning("secrets of the storage (CHAP passwords, keyrings) are stored in clear: no sealing_keys were given")
