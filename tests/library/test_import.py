"""What importing and setting up does to a program: nothing that the program did not ask for. Each in a process."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import csi_plugin
from tests.support.programs import after_importing_the_library, before_the_library
from tests.support.project import PROJECT


def test_importing_loads_neither_cinder_nor_grpc() -> None:
    program = """
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
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


IN_ANY_ORDER = """
import sys
storage, *first = sys.argv[1:]
for name in first:
    __import__(name)
import eventlet, eventlet.tpool
from cinder import utils as before

class Mine(eventlet.tpool.Proxy):
    pass

import cinderlib
assert cinderlib.persistence.base.DB and cinderlib.cinderlib.Backend  # without importing them
import cinder.objects
assert cinder.objects.Volume
import cinder.volume.manager
cinderlib.setup(persistence_config={"storage": storage}, file_locks_path=sys.path[1])
backend = cinderlib.Backend(volume_backend_name="loop", volume_driver="csi_plugin.storage.drivers.loop.LoopDriver",
                            loop_volumes_dir=sys.path[1])
backend.create_volume(1).delete()

# The program's own eventlet works, and Cinder's modules have threads.
assert isinstance(Mine([]), eventlet.tpool.Proxy)
assert eventlet.GreenPool().spawn(lambda: 3).wait() == 3
assert eventlet.semaphore.Semaphore.__module__ == "eventlet.semaphore"
import threading
from cinder import ssh_utils
from cinder.volume.drivers import solidfire
from cinder.volume.drivers.datera import datera_iscsi
from cinder.volume.drivers.netapp.dataontap.client import api
from csi_plugin.storage.cinder import driver_classes
driver_classes.driver_class("cinder.volume.drivers.solidfire.SolidFireDriver")
assert api.semaphore.Semaphore is threading.Semaphore and datera_iscsi.threading is threading
assert before.eventlet.Semaphore is threading.Semaphore
assert ssh_utils.SSHPool.__mro__[1].__module__.startswith("csi_plugin.")
assert "_threading" in solidfire.loopingcall.FixedIntervalLoopingCall.__module__
"""


@pytest.mark.cinderlib("`import cinderlib`")
@pytest.mark.parametrize(
    ("storage", "first"),
    [
        ("memory", []),
        ("memory_db", ["os_brick.initiator.connector", "cinder.ssh_utils"]),
        ("memory_db", ["cinder.context", "cinder.objects", "oslo_service.loopingcall"]),
    ],
)
def test_the_alias_in_any_order_of_imports(tmp_path: Path, storage: str, first: list[str]) -> None:
    shutil.copytree(PROJECT / "compat/cinderlib", tmp_path / "cinderlib")
    before_the_library().run(IN_ANY_ORDER, storage, *first, path=tmp_path)


def test_setup_leaves_logging_signals_and_arguments_alone(tmp_path: Path) -> None:
    before_the_library().run(
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


@pytest.mark.cinderlib("logging")
def test_logs_and_options_of_late_modules(tmp_path: Path) -> None:
    """Options whose names have dashes in files, and those of modules that are loaded when a driver needs them."""
    after_importing_the_library().run(
        """
import logging, sys
import csi_plugin as cl
hook = sys.excepthook
log, keys = sys.argv[1:]
cl.setup(disable_logs=False, log_file=log, use_json=True, strict_ssh_host_key_policy="true", ssh_hosts_key_file=keys,
         **{"DEFAULT.image_conversion_dir": "${DEFAULT.state_path}/${oslo_concurrency.lock_path}/r",
            "late.option": "7"})
from oslo_config import cfg
assert cfg.CONF.image_conversion_dir == f"{cfg.CONF.state_path}/{cfg.CONF.oslo_concurrency.lock_path}/r"
from cinder import ssh_utils
assert ssh_utils.CONF.strict_ssh_host_key_policy is True and ssh_utils.CONF.ssh_hosts_key_file == keys
cfg.CONF.register_opts([cfg.IntOpt("option")], group="late")
assert cfg.CONF.late.option == 7
logging.getLogger("cinder.volume").warning("from cinder")
assert '"from cinder"' in open(log).read() and sys.excepthook is hook
""",
        str(tmp_path / "cinder.log"),
        str(tmp_path / "keys"),
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
    silenced, heard = (after_importing_the_library().run(program, disable) for disable in ("yes", "no"))
    assert "from cinder" not in silenced and "from the program" in silenced
    assert "from cinder" in heard


ALIAS = """
import cinderlib
import cinderlib as cl
import csi_plugin
from cinderlib import exception, objects, serialization
from cinderlib.persistence import base
from cinderlib.persistence.base import PersistenceDriverBase
import cinderlib.cinderlib
import cinderlib.persistence.memory
import cinderlib.cmd.cinder_to_yaml
import cinderlib.workarounds
import pathlib, tomllib

project = tomllib.loads((pathlib.Path(csi_plugin.__file__).parents[1] / "pyproject.toml").read_text())["project"]
assert cinderlib.__version__ == csi_plugin.__version__ == project["version"]
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


@pytest.mark.cinderlib("`cinderlib.workarounds`")
def test_install_as_cinderlib() -> None:
    before_the_library().run(
        "import csi_plugin\ncsi_plugin.install_as_cinderlib()\ncsi_plugin.install_as_cinderlib()\n" + ALIAS
    )


@pytest.mark.cinderlib("`__version__`")
def test_the_alias_package() -> None:
    before_the_library().run(ALIAS, path=PROJECT / "compat")


def test_the_alias_after_cinderlib_itself(tmp_path: Path) -> None:
    (tmp_path / "cinderlib").mkdir()
    (tmp_path / "cinderlib/__init__.py").write_text("")
    (tmp_path / "cinderlib/objects.py").write_text("")
    before_the_library().run(
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
    """What type checkers make of it is in typed_program.py."""
    assert (PROJECT / "csi_plugin/py.typed").exists()
    assert set(csi_plugin.__all__) <= set(dir(csi_plugin))
    for name in csi_plugin.__all__:
        assert getattr(csi_plugin, name) is not None
