"""What the texts of settings may hold, and which of them are secret."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from csi_plugin.known_secrets import keep_secret, secrets_in, texts_in

_PASSWORD_OF_URL = re.compile(r"^[a-z][\w+.-]*://[^:/@]*:(.+)@", re.IGNORECASE)


def are_storable(value: Any) -> bool:
    """Whether every database, system call and message can hold all texts of a setting."""
    return all(map(_is_storable, texts_in(value)))


def keep_secrets(settings: Mapping[str, Any]) -> None:
    """Before anything can quote them. What only Cinder knows to be secret, it tells when the options are set."""
    keep_secret(secrets_in(settings))
    backends = settings.get("backends")
    for backend in backends if isinstance(backends, list) else []:
        if isinstance(backend, dict) and isinstance(names := backend.get("secret_options"), list):
            keep_secret(texts_in([backend.get(str(name)) for name in names]))
    for text in texts_in(settings):
        if found := _PASSWORD_OF_URL.search(text):
            keep_secret([found[1], unquote(found[1])])


def _is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
