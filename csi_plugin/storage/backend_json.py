"""JSON forms of a backend with its volumes, in cinderlib's format, and backends from them."""

import json
from collections.abc import Mapping
from typing import Any, Self

from csi_plugin.storage.backend_configuration import BackendConfiguration
from csi_plugin.storage.backend_volumes import BackendVolumes
from csi_plugin.storage.library_state import STATE
from csi_plugin.storage.volume import Volume


class BackendJSON:
    """What Backend is as plain data: its name, its configuration and its volumes."""

    _backend_configuration: BackendConfiguration
    _known_volumes: BackendVolumes

    @property
    def id(self) -> str:
        return self._backend_configuration.name

    @property
    def name(self) -> str:
        return self.id

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as dumps hold it: all of it only with ``output_all_backend_info``."""
        return (
            self._backend_configuration.driver_options()
            if STATE.output_all_backend_info
            else {"volume_backend_name": self.id}
        )

    @property
    def json(self) -> dict[str, Any]:
        return self._serialized("json")

    @property
    def jsons(self) -> str:
        return json.dumps(self.json)

    @property
    def dump(self) -> dict[str, Any]:
        return self._serialized("dump")

    @property
    def dumps(self) -> str:
        return json.dumps(self.dump)

    def _serialized(self, form: str) -> dict[str, Any]:
        volumes = [getattr(volume, form) for volume in self._known_volumes.all()]
        if STATE.output_all_backend_info:
            # Once is enough for the whole configuration.
            for volume in volumes:
                volume["backend"] = {"volume_backend_name": self.id}
        return {"class": "Backend", "backend": self.config, "volumes": volumes}

    @classmethod
    def load(cls, json_src: Mapping[str, Any] | str, save: bool = False) -> "Self | str":
        """The backend of a dump, created when it is not there and the dump has its whole configuration. ``save`` stores
        the dump's volumes, which the backend does not show otherwise. Without backend or configuration: an error, or
        with ``fail_on_missing_backend=False`` its name.
        """
        data = json.loads(json_src) if isinstance(json_src, str) else json_src
        backend = cls.load_backend(data["backend"])
        volumes = data.get("volumes")
        if volumes:
            for volume in volumes:
                Volume.load(volume, save)
        return backend

    @classmethod
    def load_backend(cls, backend_data: Mapping[str, Any]) -> "Self | str":
        name: str = backend_data["volume_backend_name"]
        if name in STATE.backends:
            present: Self = STATE.backends[name]  # type: ignore[assignment]
            return present
        if len(backend_data) > 1:
            return cls(**backend_data)
        if STATE.fail_on_missing_backend:
            raise LookupError(f"Backend {name} not present in system or json.")
        return name
