"""scripts/checks/imports.py, on small packages: what it refuses and what it lets through."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/checks/imports.py"
Check = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Runs the check on a package with these modules; ``allowed`` are lines of the table in pyproject.toml."""

    def run(modules: dict[str, str], *allowed: str) -> subprocess.CompletedProcess[str]:
        package = tmp_path / "csi_plugin"
        package.mkdir()
        (package / "__init__.py").touch()
        for name, text in modules.items():
            (package / f"{name}.py").write_text(text)
        (tmp_path / "pyproject.toml").write_text("\n".join(["[tool.cinderbox.lazy-imports]", *allowed]))
        (tmp_path / "scripts/checks").mkdir(parents=True)
        shutil.copy(SCRIPT, tmp_path / "scripts/checks")
        return subprocess.run(
            [sys.executable, tmp_path / "scripts/checks/imports.py"],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONPATH": str(tmp_path)},
        )

    return run


LAZY = "def load():\n    from csi_plugin import heavy\n    return heavy\n"


def test_an_import_inside_a_function_is_refused(check: Check) -> None:
    done = check({"light": LAZY, "heavy": ""})
    assert done.returncode == 1
    assert "csi_plugin/light.py:2: csi_plugin.light imports csi_plugin.heavy inside a function" in done.stdout


def test_one_with_a_reason_is_allowed(check: Check) -> None:
    done = check({"light": LAZY, "heavy": ""}, '"csi_plugin.light -> csi_plugin.heavy" = "it takes seconds"')
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reason_is_required(check: Check) -> None:
    done = check({"light": LAZY, "heavy": ""}, '"csi_plugin.light -> *" = ""')
    assert done.returncode == 1
    assert "needs a reason" in done.stdout


def test_an_entry_that_nothing_matches_is_refused(check: Check) -> None:
    done = check({"light": "", "heavy": ""}, '"csi_plugin.light -> csi_plugin.heavy" = "it takes seconds"')
    assert done.returncode == 1
    assert "no import is 'csi_plugin.light -> csi_plugin.heavy' any more" in done.stdout


def test_imports_for_type_checking_are_free(check: Check) -> None:
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from csi_plugin import {}\n"
    inside = "def load():\n    if TYPE_CHECKING:\n        from csi_plugin import light\n"
    done = check({"light": guarded.format("heavy"), "heavy": guarded.format("light") + inside})
    assert (done.returncode, done.stderr) == (0, "")


def test_a_circle_is_refused_also_through_a_function(check: Check) -> None:
    done = check(
        {"light": LAZY, "heavy": "import csi_plugin.middle\n", "middle": "import csi_plugin.light\n"},
        '"csi_plugin.light -> csi_plugin.heavy" = "it takes seconds"',
    )
    assert done.returncode == 1
    assert "A circle of imports: " in done.stdout
    assert all(f"csi_plugin.{name}" in done.stdout for name in ("light", "middle", "heavy"))
