"""A driver that tells its secrets to everybody, as real ones do in logs and errors."""

import json
import logging
from typing import Any

from cinder import exception
from cinder.volume import configuration
from oslo_config import cfg

from csi_plugin.storage.drivers.loop import LoopDriver

LOG = logging.getLogger("cinder.volume.drivers.talkative")

talkative_opts = [
    cfg.StrOpt("talkative_phrase", secret=True, help="Secret by definition, though its name does not say so."),
    cfg.StrOpt("talkative_key", help="Secret by the settings' word."),
    cfg.MultiOpt("talkative_devices", item_type=cfg.types.Dict(), help="Like replication_device."),
]
cfg.CONF.register_opts(talkative_opts, group=configuration.SHARED_CONF_GROUP)


class TalkativeDriver(LoopDriver):
    """Volumes whose name has ``fail`` fail, after all that the driver knows was quoted in a log and in the error."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.configuration.append_config_values(talkative_opts)
        self._tell("made")

    @classmethod
    def get_driver_options(cls) -> list[cfg.Opt]:
        return [*talkative_opts, *super().get_driver_options()]

    def _tell(self, *more: Any) -> str:
        """Without any word beside them that would give them away."""
        options = self.configuration
        told = [options.talkative_phrase, options.talkative_key, *more]
        told += [value for device in options.talkative_devices or [] for value in device.values()]
        text = " ; ".join(str(one) for one in told)
        for form in (text, repr(text), json.dumps(text)):
            LOG.debug("I know %s", form)
        return text

    def create_volume(self, volume: Any) -> Any:
        text = self._tell(volume.name)
        if "fail" in (volume.display_name or ""):
            raise exception.VolumeBackendAPIException(data=text)
        return super().create_volume(volume)

    def create_export(self, context: Any, volume: Any, connector: Any) -> Any:
        super().create_export(context, volume, connector)
        return {"provider_auth": "CHAP somebody planted-by-the-export"}

    def initialize_connection(self, volume: Any, connector: Any) -> Any:
        self._tell(volume.provider_auth.split()[-1])
        info = super().initialize_connection(volume, connector)
        info["data"] |= {
            "auth_method": "CHAP",
            "auth_username": "somebody",
            "auth_password": "planted-in-the-connection",
            "discovery_auth_password": "planted-for-discovery",
            "keyring": "[client.x]\n\tkey = planted-key-of-ceph==",
        }
        return info

    def terminate_connection(self, volume: Any, connector: Any, **keywords: Any) -> Any:
        text = self._tell("planted-in-the-connection", "planted-for-discovery", "planted-by-the-export")
        super().terminate_connection(volume, connector, **keywords)
        if "refuse" in (volume.display_name or ""):
            raise exception.VolumeBackendAPIException(data=text)
