"""What drivers answer, held to what Cinder asks of them: errors that end nothing else, values that can be stored."""

import json
import math
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from csi_plugin.error_text import error_text

_MOST_CHARACTERS = 64 * 1024
"""Of one answer that is stored: etcd takes no more than 1.5 MiB in all."""
_COLUMNS = {"provider_location": 256, "provider_auth": 256, "provider_geometry": 255, "provider_id": 255}
"""Characters that Cinder's schema has room for, and so every other place where its drivers run."""
_MOST_OF_ENTRY = 255
"""Characters of a key or a value of metadata, by the same schema."""
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
"""What some database refuses, or a terminal obeys: control characters, and bytes that are no UTF-8."""
_NOT_THE_DRIVERS = ("id", "volume_id", "deleted")
_OF_THE_MAIN_THREAD = (KeyboardInterrupt, SystemExit)


class DriverExit(Exception):
    """A driver raised what ends a thread or a process (SystemExit, CancelledError...). gRPC: INTERNAL."""


class InvalidAnswer(Exception):
    """A driver answered what no driver may. gRPC: INTERNAL."""


@contextmanager
def exits_as_errors() -> Iterator[None]:
    """Turn what is no Exception, and would pass by all that handles a driver's errors, into a DriverExit.

    A program's own end, which a signal's handler may raise in its main thread, goes on.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if isinstance(error, _OF_THE_MAIN_THREAD) and threading.current_thread() is threading.main_thread():
            raise
        raise DriverExit(f"the driver raised {type(error).__name__}: {error_text(error)}") from error


def take_update(ovo: Any, update: Any) -> None:
    """Put a driver's model update into the versioned object that it is for. Raises InvalidAnswer; the object may have
    a part of the update then."""
    if not update:
        return
    if not isinstance(update, Mapping):
        raise InvalidAnswer(f"the driver answered a {type(update).__name__} in place of a model update")
    for name, value in update.items():
        if name in _NOT_THE_DRIVERS:
            if value != getattr(ovo, name, value):
                raise InvalidAnswer(f"the driver wants to change {name}, which is not the driver's")
            continue
        most = _COLUMNS.get(name, _MOST_CHARACTERS)
        if len(str(value)) > most:
            raise InvalidAnswer(f"the driver's {name} has more than {most} characters")
        if reason := _unstorable(value, most=_MOST_OF_ENTRY if isinstance(value, Mapping) else most):
            raise InvalidAnswer(f"the driver's {name} {reason}")
        if name == "size" and "size" in ovo.fields and (type(value) is not int or value < ovo.size):
            raise InvalidAnswer(
                f"the driver says that the size is {str(value)[:40]}, and {ovo.size} GiB were asked for"
            )
        try:
            ovo.update({name: value})
        except (TypeError, ValueError, AttributeError) as error:
            raise InvalidAnswer(f"the driver's {name} is not what the field holds: {error_text(error)}") from error


def _unstorable(value: Any, *, most: int) -> str:
    """Why a value cannot be stored everywhere; empty when it can."""
    if isinstance(value, str):
        if found := _NO_TEXT.search(value):
            return f"has the character {found[0]!a}, which is no text"
        return f"has an entry of more than {most} characters" if len(value) > most else ""
    parts: Iterable[Any] = value if isinstance(value, list | tuple) else ()
    if isinstance(value, Mapping):
        parts = (part for entry in value.items() for part in entry)
    return next((reason for part in parts if (reason := _unstorable(part, most=most))), "")


def check_connection_info(info: Any) -> None:
    """Raise InvalidAnswer for what is not connection information."""
    if not isinstance(info, dict) or not isinstance(info.get("data"), dict):
        raise InvalidAnswer(
            f"the driver answered a {type(info).__name__} without data in place of connection information"
        )
    if not isinstance(info.get("driver_volume_type"), str):
        raise InvalidAnswer("the driver's connection information has no driver_volume_type")
    try:
        text = json.dumps(info)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidAnswer(f"the driver's connection information cannot be stored: {error_text(error)}") from error
    if len(text) > _MOST_CHARACTERS:
        raise InvalidAnswer(f"the driver's connection information has more than {_MOST_CHARACTERS} characters")


def check_stats(stats: Any) -> dict[str, Any]:
    """The stats that a driver answered. Raises InvalidAnswer for what the scheduler cannot work with."""
    if not isinstance(stats, Mapping):
        raise InvalidAnswer(f"the driver answered a {type(stats).__name__} in place of stats")
    pools = stats.get("pools", [])
    if not isinstance(pools, list | tuple) or not all(isinstance(pool, Mapping) for pool in pools):
        raise InvalidAnswer("the driver's stats have pools that are not a list of mappings")
    for pool in pools or [stats]:
        for name in ("total_capacity_gb", "free_capacity_gb"):
            if not _is_capacity(pool.get(name)):
                raise InvalidAnswer(f"the driver's stats have a {name} of {str(pool[name])[:40]!r}")
    if any("pool_name" not in pool for pool in pools):
        raise InvalidAnswer("the driver's stats have a pool without pool_name")
    return dict(stats)


def _is_capacity(value: Any) -> bool:
    """A number, one of Cinder's words, or nothing."""
    if isinstance(value, int | float):
        return not math.isnan(value)
    return value is None or value in ("infinite", "unknown")
