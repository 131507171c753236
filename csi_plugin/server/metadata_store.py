"""Opens the metadata store that the settings name, and sets up the library with it."""

from collections.abc import Mapping
from typing import Any

from csi_plugin.persistence.base import InvalidPersistence, PersistenceError, RecordStore
from csi_plugin.persistence.sealing import load_keys
from csi_plugin.server.cinder_conf import read_backends
from csi_plugin.server.settings import Settings, SettingsError
from csi_plugin.storage.backend import Backend


def open_store(settings: Settings) -> RecordStore:
    """Set up the library with its metadata. Raises SettingsError for settings that cannot work."""
    check_sealing(settings, settings.persistence)
    defaults = read_backends(settings.cinder_conf)[1] if settings.cinder_conf else {}
    for folder in (settings.state_dir, settings.locks_path):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        Backend.global_setup(
            file_locks_path=str(settings.locks_path),
            root_helper=settings.root_helper,
            disable_logs=settings.disable_logs or None,
            project_id=settings.project_id,
            user_id=settings.user_id,
            persistence_config=settings.persistence,
            host=settings.host,
            sealing_keys=load_keys(settings.sealing_keys_file),
            **{"state_path": str(settings.state_dir), **defaults, **settings.cinder_options},
        )
    except (InvalidPersistence, PersistenceError, ValueError, OSError) as error:
        raise SettingsError(f"metadata store: {error}") from error
    return Backend.store


def check_sealing(settings: Settings, persistence: Mapping[str, Any]) -> None:
    """Raise SettingsError when the metadata needs a key to be sealed with where it is, or is going to be, kept."""
    try:
        keys = load_keys(settings.sealing_keys_file)
    except (ValueError, OSError) as error:
        raise SettingsError(f"sealing keys: {error}") from error
    if persistence.get("storage") == "crd" and not keys:
        raise SettingsError(
            "custom resources are read by more people than may know the storage's passwords, so metadata in them needs "
            "a key: sealing_keys_file, from a Secret for example (`cinderbox generate-key` creates one)"
        )
