"""A driver whose array is a directory: it can be out of reach, refuse a password, and be slow."""

import time
from pathlib import Path
from typing import Any

from cinder import exception
from cinder.volume import configuration
from oslo_config import cfg

from csi_plugin.storage.drivers.loop import LoopDriver

array_opts = [
    cfg.StrOpt("array_dir", help="Directory with the file `password`, without which the array is out of reach."),
    cfg.StrOpt("array_password", secret=True, help="What that file has to hold."),
]
cfg.CONF.register_opts(array_opts, group=configuration.SHARED_CONF_GROUP)


class ArrayDriver(LoopDriver):
    """Creations wait while there is a file `slow`, and are noted in `log` with the password of their driver. A file
    `down` says that it is down, and one `full` that its pool is."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.configuration.append_config_values(array_opts)

    @classmethod
    def get_driver_options(cls) -> list[cfg.Opt]:
        return [*array_opts, *super().get_driver_options()]

    @property
    def array(self) -> Path:
        return Path(self.configuration.array_dir)

    def do_setup(self, context: Any) -> None:
        super().do_setup(context)
        self._log_in()

    def create_volume(self, volume: Any) -> Any:
        with (self.array / "log").open("a") as log:
            log.write(f"begun {self.configuration.array_password}\n")
        while (self.array / "slow").exists():
            time.sleep(0.02)
        made = super().create_volume(volume)
        with (self.array / "log").open("a") as log:
            log.write(f"ended {self.configuration.array_password}\n")
        return made

    def _update_volume_stats(self) -> None:
        self._log_in()
        super()._update_volume_stats()
        if (self.array / "down").exists():
            self._stats["pools"][0]["backend_state"] = "down"
        if (self.array / "full").exists():
            self._stats["pools"][0] |= {"total_capacity_gb": 10.0, "free_capacity_gb": 0.0}

    def _log_in(self) -> None:
        try:
            password = (self.array / "password").read_text()
        except OSError as error:
            raise exception.VolumeBackendAPIException(data="the array is out of reach") from error
        if password != self.configuration.array_password:
            raise exception.VolumeBackendAPIException(data=f"the array refuses {self.configuration.array_password}")
