"""How large a resource becomes in etcd, which takes 1.5 MiB for each: what is larger is refused before it is sent."""

import json
from typing import Any

from csi_plugin.persistence.base import UnstorableText
from csi_plugin.persistence.records import JSON

MOST_BYTES = 1_500_000
"""etcd's default is 1,572,864 for a whole request. The API server adds what it knows of a resource."""
_ENTRY_BYTES = len('"f:":{},')
"""What managedFields have for each field beside its name."""


class RecordTooLarge(UnstorableText):
    """No resource can hold it."""


def check_size(body: JSON, *, plural: str, name: str) -> None:
    """Raises RecordTooLarge."""
    size = len(json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode())
    size += sum(_managed_bytes(body.get(part)) for part in ("spec", "status"))
    if size > MOST_BYTES:
        raise RecordTooLarge(
            f"{plural} {name}: {size:,} bytes, and a custom resource holds {MOST_BYTES:,} (etcd's limit); parameters, "
            "labels or connections must be fewer or shorter"
        )


def _managed_bytes(value: Any) -> int:
    if not isinstance(value, dict):
        return 0
    return sum(len(str(name).encode()) + _ENTRY_BYTES + _managed_bytes(inner) for name, inner in value.items())
