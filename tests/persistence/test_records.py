"""The record contract over every built-in plugin, in clear and sealed."""

from collections.abc import Callable

import pytest

from csi_plugin.persistence.base import RecordStore
from csi_plugin.persistence.dbms import MemoryDBPersistence
from csi_plugin.persistence.memory import MemoryPersistence
from csi_plugin.persistence.sealing import Sealer, SealingStore
from csi_plugin.persistence.testing import Plugin, RecordContract


def sealed(make_plugin: Callable[[], Plugin]) -> Callable[[], Plugin]:
    def make() -> Plugin:
        plugin = make_plugin()
        assert isinstance(plugin, RecordStore)
        return SealingStore(plugin, Sealer([b"k" * 32]))

    return make


class TestMemory(RecordContract):
    @pytest.fixture
    def make_plugin(self) -> Callable[[], Plugin]:
        return MemoryPersistence


class TestMemorySealed(RecordContract):
    @pytest.fixture
    def make_plugin(self) -> Callable[[], Plugin]:
        return sealed(MemoryPersistence)


class TestMemoryDB(RecordContract):
    @pytest.fixture
    def make_plugin(self) -> Callable[[], Plugin]:
        return MemoryDBPersistence


class TestSQLite(RecordContract):
    persistent = True

    @pytest.fixture
    def make_plugin(self, make_sqlite: Callable[[], Plugin]) -> Callable[[], Plugin]:
        return make_sqlite


class TestSQLiteSealed(RecordContract):
    persistent = True

    @pytest.fixture
    def make_plugin(self, make_sqlite: Callable[[], Plugin]) -> Callable[[], Plugin]:
        return sealed(make_sqlite)


class TestMariaDB(RecordContract):
    persistent = True

    @pytest.fixture
    def make_plugin(self, make_mariadb: Callable[[], Plugin]) -> Callable[[], Plugin]:
        return make_mariadb


class TestMariaDBSealed(RecordContract):
    persistent = True

    @pytest.fixture
    def make_plugin(self, make_mariadb: Callable[[], Plugin]) -> Callable[[], Plugin]:
        return sealed(make_mariadb)


class TestCRD(RecordContract):
    persistent = True

    @pytest.fixture
    def make_plugin(self, make_crd: Callable[[], Plugin]) -> Callable[[], Plugin]:
        return make_crd


class TestCRDSealed(RecordContract):
    persistent = True

    @pytest.fixture
    def make_plugin(self, make_crd: Callable[[], Plugin]) -> Callable[[], Plugin]:
        return sealed(make_crd)


class TestPostgreSQL(RecordContract):
    persistent = True

    @pytest.fixture
    def make_plugin(self, make_postgresql: Callable[[], Plugin]) -> Callable[[], Plugin]:
        return make_postgresql
