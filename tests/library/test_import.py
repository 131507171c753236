"""What importing and setting up does to a program: nothing that the program did not ask for. Each in a process."""

import subprocess
import sys
from pathlib import Path

import pytest

import csi_plugin
from tests.support.project import PROJECT


def run(program: str, *arguments: str, path: Path | None = None) -> str:
    """The output of a Python program; a failure shows its error output."""
    search = [str(PROJECT)] if path is None else [str(path), str(PROJECT)]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": ":".join(search)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_loads_neither_cinder_nor_grpc() -> None:
    run(
        """
import sys
import csi_plugin, csi_plugin as cl
from csi_plugin import install_as_cinderlib
from csi_plugin.instrumentation import failpoints
import csi_plugin.persistence.base
install_as_cinderlib()
import cinderlib
from cinderlib.persistence import base
heavy = {name.partition(".")[0] for name in sys.modules} & {"cinder", "grpc", "os_brick", "sqlalchemy", "eventlet"}
assert not heavy, heavy
assert {"Backend", "Volume", "setup", "load"} <= set(dir(cl))
try:
    cl.nothing
except AttributeError as error:
    assert "nothing" in str(error)
"""
    )


def test_setup_leaves_logging_signals_and_arguments_alone(tmp_path: Path) -> None:
    run(
        """
import logging, signal, sys
from concurrent.futures import ThreadPoolExecutor

def state():
    root = logging.getLogger()
    mine = logging.getLogger("my.program")
    return (
        list(sys.argv), root.level, list(root.handlers), root.disabled, mine.disabled, mine.isEnabledFor(logging.INFO),
        logging.root.manager.disable, {number: signal.getsignal(number) for number in signal.valid_signals()},
        sys.stdout, sys.stderr, sys.excepthook,
    )

stream = sys.stdout
logging.basicConfig(level=logging.INFO, stream=stream, format="%(message)s")
signal.signal(signal.SIGUSR1, lambda *args: None)
before = state()
import csi_plugin as cl
cl.setup(debug=True)
backend = cl.Backend(volume_backend_name="loop", volume_driver="csi_plugin.storage.drivers.loop.LoopDriver",
                     loop_volumes_dir=sys.argv[1])
backend.create_volume(1).delete()
assert state() == before, (state(), before)
logging.getLogger("my.program").info("still heard")
""",
        str(tmp_path),
        "--config-file=/nonexistent",
        "--unknown-flag",
    )


def test_disable_logs_silences_cinder_alone(tmp_path: Path) -> None:
    program = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stdout, format="%(name)s %(message)s")
import csi_plugin as cl
cl.setup(disable_logs=sys.argv[1] == "yes")
logging.getLogger("cinder.volume").warning("from cinder")
logging.getLogger("program").warning("from the program")
"""
    assert "from cinder" not in run(program, "yes")
    assert "from the program" in run(program, "yes")
    assert "from cinder" in run(program, "no")


ALIAS = """
import cinderlib
import cinderlib as cl
import csi_plugin
from cinderlib import exception, objects, serialization
from cinderlib.persistence import base
from cinderlib.persistence.base import PersistenceDriverBase
import cinderlib.cinderlib
import cinderlib.persistence.memory

assert cl is cinderlib is csi_plugin
assert cl.DEFAULT_PROJECT_ID == cl.DEFAULT_USER_ID == "cinderlib"
assert objects.Volume is cl.Volume is csi_plugin.Volume
assert cinderlib.objects.KeyValue is cl.KeyValue
assert cinderlib.cinderlib.Backend is cl.Backend
assert cinderlib.exception.VolumeNotFound is exception.VolumeNotFound
assert exception.NotLocal and exception.InvalidPersistence and exception.ConnectionNotFound
assert cinderlib.persistence.base is base
import csi_plugin.persistence.base as own
assert base is own and own.__name__ == own.__spec__.name == "csi_plugin.persistence.base"
assert PersistenceDriverBase is own.PersistenceDriverBase
assert serialization.loads if hasattr(serialization, "loads") else serialization.load is cl.load
try:
    import cinderlib.storage.volume
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("a module of ours was loaded under a second name")
"""


def test_install_as_cinderlib() -> None:
    run("import csi_plugin\ncsi_plugin.install_as_cinderlib()\ncsi_plugin.install_as_cinderlib()\n" + ALIAS)


def test_the_alias_package() -> None:
    run(ALIAS, path=PROJECT / "compat")


def test_the_alias_after_cinderlib_itself(tmp_path: Path) -> None:
    (tmp_path / "cinderlib").mkdir()
    (tmp_path / "cinderlib/__init__.py").write_text("")
    (tmp_path / "cinderlib/objects.py").write_text("")
    run(
        """
import cinderlib.objects
import csi_plugin
try:
    csi_plugin.install_as_cinderlib()
except RuntimeError as error:
    assert "imported already" in str(error)
else:
    raise AssertionError
""",
        path=tmp_path,
    )


def test_the_package_is_typed() -> None:
    assert (PROJECT / "csi_plugin/py.typed").exists()
    assert set(csi_plugin.__all__) <= set(dir(csi_plugin))
    for name in csi_plugin.__all__:
        assert getattr(csi_plugin, name) is not None


@pytest.mark.timeout(300)
def test_type_checkers_know_the_api(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import csi_plugin as cl\n"
        "volume = cl.Backend('name').create_volume(1)\n"
        "reveal_type(volume)\n"
        "reveal_type(volume.create_snapshot('s').create_volume())\n"
        "reveal_type(volume.connect({}).path)\n"
        "reveal_type(cl.list_supported_drivers())\n"
        "reveal_type(cl.dumps())\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(PROJECT / "pyproject.toml"), str(program)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    revealed = [line.split('"')[1] for line in done.stdout.splitlines() if "Revealed type" in line]
    assert revealed == [
        "csi_plugin.storage.volume.Volume",
        "csi_plugin.storage.volume.Volume",
        "str | None",
        "dict[str, dict[str, Any]]",
        "str",
    ], done.stdout
