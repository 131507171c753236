"""A whole server in mode all, and claims on it that tests stage, publish and look at."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.claims import Claim, MakeClaim
from tests.support.devices import loop_devices, mounts_below
from tests.support.serving import Served, serving


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("node"), persistence={"storage": "memory"}) as served:
        yield served


@pytest.fixture
def claim(server: Served, tmp_path: Path) -> Iterator[MakeClaim]:
    """Makes claims; at the end of the test nothing of them may be left."""
    claims: list[Claim] = []

    def make(name: str = "", **arguments: Any) -> Claim:
        name = name or f"claim-{len(claims)}"
        claims.append(Claim(server, tmp_path / name, name=f"{tmp_path.name}-{name}", **arguments))
        return claims[-1]

    yield make
    for made in reversed(claims):
        made.remove()
    assert mounts_below(tmp_path) == []
    assert loop_devices(server.folder) == []
    assert server.files() == []
