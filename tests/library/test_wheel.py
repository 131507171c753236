"""What is installed from the wheel works like the checkout: a program of cinderlib's, unchanged.

``make test-wheel`` gives the wheel a virtual environment of its own on each Python that is supported; in the suite, it
is unpacked before the packages of the one at hand.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.project import PROJECT

UV = PROJECT / ".tools/uv/bin/uv"
PYTHONS = os.environ.get("WHEEL_PYTHONS", "").split() or ["at hand"]
SEARCHED = os.pathsep.join([*map(str, Path.home().glob(".pyenv/versions/*/bin")), os.environ["PATH"]])
"""Where Pythons are: pyenv's are used although none of them is its current one."""

PROGRAM = """
import importlib.metadata, sys
import oslo_service.loopingcall, cinder.objects  # before, which chooses eventlet for oslo.service
import cinderlib as cl
import csi_plugin

here, folder = sys.argv[1:]
assert csi_plugin.__file__.startswith(here) and cl is csi_plugin, csi_plugin.__file__
assert cl.__version__ == importlib.metadata.version("cinderbox")
cl.setup(persistence_config={"storage": "db", "connection": f"sqlite:///{folder}/cl.sqlite"}, file_locks_path=folder)
backend = cl.Backend(volume_backend_name="loop", volume_driver="csi_plugin.storage.drivers.loop.LoopDriver",
                     loop_volumes_dir=f"{folder}/volumes")
volume = backend.create_volume(1, name="a")
snapshot = volume.create_snapshot("s")
assert [found.name for found in cl.Volume.get_by_id(volume.id).snapshots] == ["s"]
snapshot.delete()
volume.delete()
assert backend.volumes == []
print("{}.{}".format(*sys.version_info))
"""


def do(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd="/", env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("wheels")
    for source in (PROJECT, PROJECT / "compat"):
        do(UV, "build", "--quiet", "--wheel", "--out-dir", folder, source)
    found = {path.name.partition("-")[0]: str(path) for path in folder.glob("*.whl")}
    return [f"{found['cinderbox']}[controller]", found["cinderlib"]]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", PYTHONS)
def test_a_program_of_cinderlibs(wheels: list[str], tmp_path: Path, version: str) -> None:
    if version == "at hand":
        python, here = Path(sys.executable), tmp_path / "site"
        files = [wheel.partition("[")[0] for wheel in wheels]
        do(UV, "pip", "install", "--quiet", "--no-deps", "--python", python, "--target", here, *files)
    else:
        python, here = tmp_path / "venv/bin/python", tmp_path / "venv"
        do(UV, "venv", "--quiet", "--python", version, here, PATH=SEARCHED)
        do(UV, "pip", "install", "--quiet", "--python", python, *wheels)
    printed = do(python, "-W", "ignore", "-c", PROGRAM, str(here), str(tmp_path), PYTHONPATH=str(tmp_path / "site"))
    assert version in ("at hand", printed.strip())
