"""What Cinder's RBD driver reads only when it starts: the keyring that nodes get with each volume."""

import logging
from pathlib import Path
from typing import Any

LOG = logging.getLogger(__name__)


def complete(driver: Any, connection_info: dict[str, Any]) -> None:
    """Put the keyring as it is now into connection information: keys are rotated. Does nothing for other drivers."""
    path = getattr(driver, "keyring_file", None) if hasattr(driver.__class__, "_set_keyring_attributes") else None
    if not path or "data" not in connection_info:
        return
    try:
        connection_info["data"]["keyring"] = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        LOG.warning("keyring %s cannot be read, and nodes get what it had before: %s", path, error)
