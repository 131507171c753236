"""A driver that does whatever a test says: each of its methods looks for a file of its name in $TEST_FAULTS."""

import asyncio
import builtins
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cinder import exception

from csi_plugin.storage.drivers.loop import LoopDriver

METHODS = (
    *("create_volume", "delete_volume", "extend_volume", "create_snapshot", "delete_snapshot"),
    *("create_export", "initialize_connection", "terminate_connection", "get_volume_stats", "create_group_snapshot"),
)
ANSWERS: dict[str, Any] = {
    "none": None,
    "number": 42,
    "text": "nonsense",
    "list": [1, None, {"a": object()}],
    "object": {"provider_location": object(), "metadata": 7},
    "long": {"provider_id": "x" * 300},
    "huge": {"provider_location": "x" * 10_000_000},
    "small": {"size": 0},
    "foreign": {"id": "00000000-0000-4000-8000-000000000000"},
    "no-data": {"driver_volume_type": "iscsi", "data": None},
    "no-type": {"data": {}},
    "unstorable": {"driver_volume_type": "iscsi", "data": {"a": {1, 2}}},
    "huge-data": {"driver_volume_type": "iscsi", "data": {"a": "x" * 10_000_000}},
    "bad-pools": {"pools": [None, 7]},
    "bad-room": {"pools": [{"pool_name": "p", "total_capacity_gb": "lots", "free_capacity_gb": float("nan")}]},
}


class UnspeakableError(Exception):
    """It cannot even be printed."""

    def __str__(self) -> str:
        raise ValueError("no words")


def new_error(name: str) -> BaseException:
    """One of Cinder's, of Python's, or of this module's, by its class's name."""
    known = {"CancelledError": asyncio.CancelledError, "UnspeakableError": UnspeakableError}
    kind = known.get(name) or getattr(exception, name, None) or getattr(builtins, name)
    for arguments in ((), ("text",), ("text", "text"), ("utf-8", b"text", 0, 1, "text")):
        try:
            made: BaseException = kind(*arguments)
        except TypeError:
            continue
        return made
    raise AssertionError(f"{name} cannot be made")


def _misbehaving(name: str) -> Callable[..., Any]:
    behave = getattr(LoopDriver, name)

    def method(self: Any, *arguments: Any, **keywords: Any) -> Any:
        file = Path(os.environ["TEST_FAULTS"], name)
        fault, _, what = (file.read_text() if file.exists() else "").partition(" ")
        match fault:
            case "raise":
                raise new_error(what)
            case "wait":
                Path(os.environ["TEST_FAULTS"], "waits").touch()
                while file.exists():
                    time.sleep(0.02)
            case "leak":
                threading.Thread(target=threading.Event().wait).start()
        answer = behave(self, *arguments, **keywords)
        if fault == "raise-afterwards":
            raise new_error(what)
        return ANSWERS[what] if fault == "answer" else answer

    return method


class MisbehavingDriver(LoopDriver):
    """Its methods are set below."""


for _name in METHODS:
    setattr(MisbehavingDriver, _name, _misbehaving(_name))
