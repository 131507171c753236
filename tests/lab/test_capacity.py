"""The capacity that the controller reports is what the storage itself says."""

from collections.abc import Callable

from tests.lab.backends import LabBackend
from tests.lab.servers import LabServer
from tests.lab.volumes import MakeClaim
from tests.support.polling import wait_until

TOLERANCE_GIB = 0.5
"""Cinder's drivers round the sizes of pools to hundredths, and multiply them by twenty."""


def test_capacity(server: LabServer, backend: LabBackend, claim: MakeClaim, shows: Callable[[str], None]) -> None:
    def reported() -> float:
        return server.room(backend)

    def is_true() -> bool:
        return abs(reported() - backend.room()) < TOLERANCE_GIB

    wait_until(is_true, lambda: (reported(), backend.room()), timeout=120)
    before = backend.room()
    volume = claim("large", gib=5)
    assert before - backend.room() > 4
    wait_until(is_true, lambda: (reported(), backend.room()), timeout=120)
    volume.remove()
    wait_until(is_true, lambda: (reported(), backend.room()), timeout=120)
    assert before - backend.room() < TOLERANCE_GIB
    shows("capacity")
