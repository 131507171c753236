"""How nodes map the images of a backend: an option that Cinder's RBD driver does not have."""

import re
from typing import Any

from oslo_config import cfg, types

_WORD = re.compile(r"[a-z_]+(=[^,\s]+)?")
_NOT_HERE = ("name", "secret", "key", "ro", "rw")
"""Who maps, and whether for reading, is told otherwise."""


class _MapOptions(types.String):  # type: ignore[misc]
    def __call__(self, value: Any) -> str:
        words = [word for word in str(value or "").split(",") if word]
        for word in words:
            name = word.partition("=")[0]
            if not _WORD.fullmatch(word) or name in _NOT_HERE:
                raise ValueError(
                    f"{word!r} is no option of rbd map: names, with = and a value where they have one, and commas "
                    f"between them, such as ms_mode=secure,queue_depth=256; without {', '.join(_NOT_HERE)}"
                )
        return ",".join(words)


OPTION = cfg.Opt(
    "rbd_map_options",
    type=_MapOptions(),
    default="",
    help="Options with which nodes map the images, as of rbd map --options: ms_mode=secure,queue_depth=256",
)


def add(driver: Any, connection_info: dict[str, Any]) -> None:
    """Tell nodes with which options to map an image. Does nothing for other drivers."""
    if connection_info.get("driver_volume_type") == "rbd" and (options := driver.configuration.safe_get(OPTION.dest)):
        connection_info["data"]["map_options"] = options
