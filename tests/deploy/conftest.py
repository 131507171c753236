"""One API server for all tests of the deployment."""

from collections.abc import Iterator

import pytest

from tests.deploy.api_server import ApiServer


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path_factory.mktemp("kubernetes"))
    yield server
    server.stop()
