"""The example plugin of the documentation is a working one."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from csi_plugin.persistence.testing import ObjectContract, Plugin, RecordContract

PAGE = Path(__file__).parent.parent.parent / "docs" / "persistence.md"


@pytest.fixture
def make_documented(tmp_path: Path) -> Callable[[], Plugin]:
    [code] = re.findall(r"```python\n(import sqlite3\n.*?)```", PAGE.read_text(), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), namespace)
    return lambda: namespace["MyPlugin"](location=tmp_path / "metadata.sqlite")


class TestObjects(ObjectContract):
    @pytest.fixture
    def make_plugin(self, make_documented: Callable[[], Plugin]) -> Callable[[], Plugin]:
        return make_documented


class TestRecords(RecordContract):
    persistent = True

    @pytest.fixture
    def make_plugin(self, make_documented: Callable[[], Plugin]) -> Callable[[], Plugin]:
        return make_documented
