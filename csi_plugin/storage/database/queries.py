"""Filters, order and pages of Cinder's list functions, over rows that are in memory."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any


def matches(row: Mapping[str, Any], filters: Mapping[str, Any] | None) -> bool:
    """Whether a row passes: equal values, one of several, a host with any of its pools, metadata entries."""
    for name, wanted in (filters or {}).items():
        if name in ("metadata", "glance_metadata"):
            entries = {entry["key"]: entry["value"] for entry in row.get(f"volume_{name}", [])}
            if not set(wanted.items()) <= set(entries.items()):
                return False
        elif name == "host":
            if not _is_host(row.get("host") or "", wanted):
                return False
        elif name == "no_migration_targets":
            if wanted and (row.get("migration_status") or "").startswith("target:"):
                return False
        elif isinstance(wanted, list | tuple | set | frozenset):
            if row.get(name) not in wanted:
                return False
        elif row.get(name) != wanted:
            return False
    return True


def _is_host(host: str, wanted: str) -> bool:
    if host == wanted:
        return True
    if "#" in wanted:
        return False
    return host.startswith(f"{wanted}#") or ("@" not in wanted and host.startswith(f"{wanted}@"))


def page(
    rows: Iterable[Any],
    *,
    marker: str | None = None,
    limit: int | None = None,
    offset: int | None = None,
    sort_keys: list[str] | None = None,
    sort_dirs: list[str] | None = None,
) -> list[Any]:
    """Order rows (by default newest first, then by id downwards) and cut out the page after the row ``marker``."""
    keys = sort_keys or ["created_at", "id"]
    directions = list(sort_dirs or ["desc"])
    directions += [directions[0]] * (len(keys) - len(directions))
    ordered = list(rows)
    for key, direction in reversed(list(zip(keys, directions, strict=False))):
        ordered.sort(key=lambda row: _sortable(row.get(key)), reverse=direction == "desc")
    if marker is not None:
        ids = [row["id"] for row in ordered]
        ordered = ordered[ids.index(marker) + 1 :] if marker in ids else []
    ordered = ordered[offset or 0 :]
    return ordered if limit is None else ordered[:limit]


def _sortable(value: Any) -> tuple[bool, Any]:
    """None sorts before everything else, as in SQLite."""
    if isinstance(value, datetime):
        return True, value if value.tzinfo else value.replace(tzinfo=UTC)
    return value is not None, value
