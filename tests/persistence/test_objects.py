"""The documented plugin interface over every built-in plugin."""

from collections.abc import Callable

import pytest

from csi_plugin.persistence.dbms import MemoryDBPersistence
from csi_plugin.persistence.memory import MemoryPersistence
from csi_plugin.persistence.testing import ObjectContract, Plugin


class TestMemory(ObjectContract):
    @pytest.fixture
    def make_plugin(self) -> Callable[[], Plugin]:
        return MemoryPersistence


class TestMemoryDB(ObjectContract):
    @pytest.fixture
    def make_plugin(self) -> Callable[[], Plugin]:
        return MemoryDBPersistence


class TestSQLite(ObjectContract):
    @pytest.fixture
    def make_plugin(self, make_sqlite: Callable[[], Plugin]) -> Callable[[], Plugin]:
        return make_sqlite


class TestCRD(ObjectContract):
    @pytest.fixture
    def make_plugin(self, make_crd: Callable[[], Plugin]) -> Callable[[], Plugin]:
        return make_crd


class TestMariaDB(ObjectContract):
    @pytest.fixture
    def make_plugin(self, make_mariadb: Callable[[], Plugin]) -> Callable[[], Plugin]:
        return make_mariadb
