"""One API server for all tests of the deployment."""

from collections.abc import Iterator

import pytest

from tests.deploy.api_server import ApiServer, running_api_server


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_api_server(tmp_path_factory.mktemp("kubernetes")) as server:
        yield server
