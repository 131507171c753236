"""What importing and setting up the library does to a process, and what drivers find in it."""

import ast
import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cinder
import os_brick
import pytest
from cinder import coordination, ssh_utils
from cinder import utils as cinder_utils
from oslo_config import cfg
from oslo_service import backend as service_backend

from csi_plugin.storage.backend import Backend
from csi_plugin.storage.cinder import eventlet_threads, runtime
from tests.support.programs import after_importing_the_library, before_the_library

CINDER = Path(cinder.__file__).parent
SET_UP = "from csi_plugin.storage.backend import Backend; Backend.global_setup(file_locks_path={locks!r})"
NOBODY = 65534


def run(code: str, *prefix: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter; its last line of output is JSON."""
    return subprocess.run(
        [*prefix, sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
        env={**os.environ, **environment},
    )


def answer(result: subprocess.CompletedProcess[str]) -> Any:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def printed(code: str) -> Any:
    """What a program prints last, which is JSON, after it has imported the library."""
    return json.loads(after_importing_the_library().run(code).splitlines()[-1])


def test_the_program_keeps_its_logging_signals_and_arguments(tmp_path: Path) -> None:
    code = f"""
        import json
        {SET_UP.format(locks=str(tmp_path))}
        Backend("b", volume_driver="csi_plugin.storage.drivers.loop.LoopDriver", loop_volumes_dir={str(tmp_path)!r})
        print(json.dumps([before, state()]))
    """
    before, after = printed(code)
    assert before == after


def test_importing_says_nothing_and_loads_no_grpc() -> None:
    code = """
        import json, os, sys
        from oslo_service import backend
        grpc = [name for name in sys.modules if name.split(".")[0] == "grpc"]
        print(json.dumps([grpc, os.environ["GRPC_ENABLE_FORK_SUPPORT"], backend.get_backend_type().name]))
    """
    assert printed(code) == [[], "0", "THREADING"]
    assert after_importing_the_library().said() == ""


@pytest.mark.parametrize(
    "first", ["volume", "codec", "cinder.options", "database", "cinder.scheduler", "exception", "cinder.runtime"]
)
def test_any_module_may_be_imported_first(first: str) -> None:
    """And a value that the program chose for gRPC stays."""
    code = f"""
        import os, sys
        assert not {{"cinder", "os_brick", "oslo_service", "eventlet", "grpc", "csi_plugin"}} & set(sys.modules)
        os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "1"
        import csi_plugin.storage.{first}
        print(os.environ["GRPC_ENABLE_FORK_SUPPORT"])
    """
    assert before_the_library().run(code) == "1\n"


@pytest.mark.parametrize(("disable", "expected"), [(True, ["program"]), (False, ["cinder", "oslo", "program"])])
def test_disable_logs_silences_cinder_and_its_libraries_alone(
    tmp_path: Path, disable: bool, expected: list[str]
) -> None:
    code = f"""
        import json, logging
        heard = []
        class Ear(logging.Handler):
            def emit(self, record): heard.append(record.getMessage())
        logging.getLogger().addHandler(Ear())
        from csi_plugin.storage.backend import Backend
        Backend.global_setup(file_locks_path={str(tmp_path)!r}, disable_logs={disable})
        heard.clear()
        logging.getLogger("cinder.volume.drivers.lvm").error("cinder")
        logging.getLogger("oslo_concurrency.processutils").error("oslo")
        logging.getLogger("program").error("program")
        print(json.dumps(heard))
    """
    assert printed(code) == expected


def test_a_program_that_uses_oslo_config_keeps_its_command_line(tmp_path: Path) -> None:
    code = f"""
        import json
        from oslo_config import cfg
        cfg.CONF.register_cli_opt(cfg.StrOpt("colour"))
        cfg.CONF(["--colour", "red"], project="program")
        {SET_UP.format(locks=str(tmp_path))}
        print(json.dumps(cfg.CONF.colour))
    """
    assert printed(code) == "red"


def test_locks_are_where_the_program_wants_them(tmp_path: Path) -> None:
    code = f"""
        import json
        {SET_UP.format(locks=str(tmp_path / "locks"))}
        from cinder import coordination, utils
        from oslo_config import cfg
        import os_brick.utils
        @coordination.synchronized("driver-lock")
        def with_cinders_lock(): pass
        @utils.synchronized("file-lock", external=True)
        def with_oslos_lock(): pass
        with_cinders_lock(); with_oslos_lock()
        print(json.dumps([cfg.CONF.oslo_concurrency.lock_path, cfg.CONF.os_brick.lock_path]))
    """
    locks = str(tmp_path / "locks")
    assert printed(code) == [locks, locks]
    assert {path.name for path in (tmp_path / "locks").iterdir()} >= {"cinder-driver-lock", "cinder-file-lock"}


def test_cinders_locks_exclude_threads_of_one_process(library: None) -> None:
    inside, most = 0, 0

    @coordination.synchronized("threads-of-one-process")
    def alone() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.01)  # the others would get in here
        inside -= 1

    threads = [threading.Thread(target=alone) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_options_of_the_set_up(tmp_path: Path) -> None:
    code = f"""
        import json
        from csi_plugin.storage.backend import Backend
        Backend.global_setup(
            file_locks_path={str(tmp_path)!r}, host="here", project_id="p", user_id="u", non_uuid_ids=True,
            my_ip="192.0.2.1", volumes_dir="$state_path/x", state_path={str(tmp_path)!r},
            **{{"database.max_retries": 5}},
        )
        from cinder import objects
        from csi_plugin.storage.cinder import runtime
        from oslo_config import cfg
        volume = objects.Volume(id="no uuid")
        print(json.dumps([
            runtime.host(), runtime.CONTEXT.project_id, runtime.CONTEXT.user_id, volume.id, cfg.CONF.my_ip,
            cfg.CONF.volumes_dir, cfg.CONF.database.max_retries,
        ]))
    """
    assert printed(code) == ["here", "p", "u", "no uuid", "192.0.2.1", f"{tmp_path}/x", 5]


def test_a_failed_set_up_can_be_done_again(tmp_path: Path) -> None:
    code = f"""
        import json
        from csi_plugin.storage.backend import Backend
        errors = []
        for arguments in ({{"debug": "perhaps"}}, {{"persistence_config": {{"storage": "nothing"}}}}, {{}}):
            try:
                Backend.global_setup(file_locks_path={str(tmp_path)!r}, **arguments)
            except Exception as error:
                errors.append(type(error).__name__)
        print(json.dumps([errors, Backend.global_initialization]))
    """
    assert printed(code) == [["ValueError", "InvalidPersistence"], True]


# Root and others.


@pytest.fixture
def root_helper(tmp_path: Path) -> Iterator[Path]:
    """A directory with a ``sudo`` that has this process, which is root, run commands, and notes them in a file."""
    assert os.geteuid() == 0, "tests run as root"
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.owner() == "root" and parent != Path("/") and parent.name.startswith("pytest"):
            parent.chmod(0o755)
    address = tmp_path / "root.socket"
    script = tmp_path / "bin" / "sudo"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\n"
        "import json, socket, sys\n"
        "with socket.socket(socket.AF_UNIX) as channel:\n"
        f"    channel.connect({str(address)!r})\n"
        "    socket.send_fds(channel, [json.dumps(sys.argv[1:]).encode()], [0, 1, 2])\n"
        "    sys.exit(int(channel.recv(9)))\n"
    )
    script.chmod(0o755)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(address))
    address.chmod(0o777)
    server.listen()
    thread = threading.Thread(target=_serve_root, args=(server, tmp_path / "commands"), daemon=True)
    thread.start()
    yield script.parent
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(60)


def _serve_root(server: socket.socket, log: Path) -> None:
    with contextlib.suppress(OSError):  # closed at the end of the test
        while True:
            channel, _ = server.accept()
            message, files, _, _ = socket.recv_fds(channel, 65536, 3)
            command = json.loads(message)
            with log.open("a") as file:
                file.write(json.dumps(command) + "\n")
            code = subprocess.run(command, stdin=files[0], stdout=files[1], stderr=files[2], check=False).returncode
            for file_number in files:
                os.close(file_number)
            channel.send(str(code).encode())
            channel.close()


def run_as_nobody(code: str, bin_directory: Path) -> subprocess.CompletedProcess[str]:
    home = bin_directory.parent / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    # It may read everything, so that the checkout may be anywhere; nothing else of root's.
    become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
              "--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search")  # fmt: skip
    path = f"{bin_directory}:{os.environ['PATH']}"
    return run(code, *become, HOME=str(home), PATH=path, XDG_STATE_HOME="")


@pytest.mark.cinderlib("`state_path`, locks")
@pytest.mark.root
def test_others_than_root_run_commands_through_rootwrap(root_helper: Path, tmp_path: Path) -> None:
    secret = tmp_path / "only-root"
    secret.mkdir(mode=0o700)
    code = f"""
        import json, os
        from csi_plugin.storage.backend import Backend
        Backend.global_setup()
        from cinder import utils
        from oslo_concurrency import processutils
        assert os.geteuid() == {NOBODY}
        utils.execute("truncate", "-s", "1", {str(secret / "made")!r}, run_as_root=True)
        try:
            utils.execute("mkswap", {str(secret / "made")!r}, run_as_root=True)
        except processutils.ProcessExecutionError as error:
            refused = error.exit_code
        from oslo_config import cfg
        print(json.dumps([refused, cfg.CONF.rootwrap_config, cfg.CONF.state_path]))
    """
    done = run_as_nobody(code, root_helper)
    refused, configuration, state = answer(done)
    assert (secret / "made").stat().st_uid == 0
    assert refused == 99, "rootwrap's answer to a command that is in no filter"
    # The worker's folder is root's alone, and what may read everything may go through it.
    assert state == str(tmp_path / "home/.local/state/cinderbox"), done.stderr
    assert Path(state).stat().st_mode & 0o777 == 0o700
    rootwrap = [str(Path(sys.prefix) / "bin/cinder-rootwrap"), configuration]
    commands = [json.loads(line) for line in (tmp_path / "commands").read_text().splitlines()]
    assert commands == [[*rootwrap, "truncate", "-s", "1", f"{secret}/made"], [*rootwrap, "mkswap", f"{secret}/made"]]


@pytest.mark.root
def test_others_than_root_call_privileged_functions_in_a_daemon(root_helper: Path, tmp_path: Path) -> None:
    secret = tmp_path / "only-root"
    secret.mkdir(mode=0o700)
    code = f"""
        import json
        from csi_plugin.storage.backend import Backend
        Backend.global_setup()
        from cinder.privsep import path
        path.touch({str(secret / "made")!r})
        print(json.dumps("done"))
    """
    assert answer(run_as_nobody(code, root_helper)) == "done"
    assert (secret / "made").stat().st_uid == 0
    (command,) = [json.loads(line) for line in (tmp_path / "commands").read_text().splitlines()]
    assert command[:3] == [f"{sys.prefix}/bin/privsep-helper", "--privsep_context", "cinder.privsep.sys_admin_pctxt"]


@pytest.mark.root
def test_root_calls_privileged_functions_in_its_own_process(library: None) -> None:
    import os_brick.privileged
    from cinder import privsep

    contexts = (privsep.sys_admin_pctxt, os_brick.privileged.default, os_brick.privileged.brick_privsep_hide_output)
    assert [context.client_mode for context in contexts] == [False] * 3


def test_every_privileged_context_is_known() -> None:
    """One that is not switched would start a daemon under root."""
    found = set()
    for package in (CINDER, Path(os_brick.__file__).parent):
        for path in package.rglob("*.py"):
            if "tests" in path.relative_to(package).parts:
                continue
            text = path.read_text()
            if "PrivContext(" in text:
                tree = ast.parse(text)
                found |= {
                    f"{package.name}.{node.targets[0].id}"  # type: ignore[attr-defined]
                    for node in ast.walk(tree)
                    if isinstance(node, ast.Assign) and "PrivContext(" in ast.unparse(node.value)
                }
    assert found == {"cinder.sys_admin_pctxt", "os_brick.default", "os_brick.brick_privsep_hide_output"}


# Threads instead of eventlet.

SERVICES = {"cinder.manager", "cinder.monkey_patch", "cinder.__init__"}
"""Of Cinder's services, which do not run here."""


def eventlet_uses(path: Path) -> set[str]:
    """What a module names of eventlet, as dotted paths."""
    text = path.read_text()
    if "eventlet" not in text:
        return set()
    tree = ast.parse(text)
    imported: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {(a.asname or a.name).split(".")[0]: "eventlet" for a in node.names if is_eventlet(a.name)}
        elif isinstance(node, ast.ImportFrom) and is_eventlet(node.module or ""):
            imported |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    uses = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            head, _, rest = ast.unparse(node).partition(".")
            if head in imported:
                uses.add(f"{imported[head]}.{rest}")
    # ``threading`` is replaced as a whole, so what is taken from it does not matter.
    uses = {"eventlet.green.threading" if use.startswith("eventlet.green.threading.") else use for use in uses}
    return uses | {name for name in imported.values() if name == "eventlet.green.threading"}


def is_eventlet(module: str) -> bool:
    return module.split(".")[0] == "eventlet"


def test_all_uses_of_eventlet_are_adapted() -> None:
    packages = ("volume", "zonemanager", "brick", "image", "privsep", "objects", "keymgr", "db", "scheduler")
    paths = [path for package in packages for path in (CINDER / package).rglob("*.py")] + list(CINDER.glob("*.py"))
    found = {}
    for path in paths:
        uses = eventlet_uses(path)
        if uses:
            found[".".join(("cinder", *path.relative_to(CINDER).with_suffix("").parts))] = uses
    assert {name: uses for name, uses in found.items() if name not in SERVICES} == eventlet_threads.ADAPTED
    replaced = set(eventlet_threads.REPLACEMENTS)
    assert {use for uses in eventlet_threads.ADAPTED.values() for use in uses} <= replaced


def test_netapps_semaphore_is_one_of_threads(library: None) -> None:
    from cinder.volume.drivers.netapp.dataontap.client import api

    assert api.semaphore.Semaphore is threading.Semaphore


def test_ds8ks_background_work_runs(library: None) -> None:
    from cinder.volume.drivers.ibm.ibm_storage import ds8k_proxy

    done = threading.Event()
    ds8k_proxy.eventlet.spawn(done.set)
    assert done.wait(60)
    assert ds8k_proxy.eventlet.spawn(lambda number: number + 1, 2).wait() == 3


def test_dateras_thread_local_data_is_of_threads(library: None) -> None:
    from cinder.volume.drivers.datera import datera_iscsi

    assert datera_iscsi.threading is threading


def test_cinders_pool_of_ssh_connections_works_with_threads() -> None:
    assert issubclass(ssh_utils.SSHPool, eventlet_threads.ThreadedPool)
    made: list[int] = []

    class Pool(eventlet_threads.ThreadedPool):
        def create(self) -> int:
            made.append(len(made))
            return made[-1]

    pool = Pool(min_size=1, max_size=2)
    first, second = pool.get(), pool.get()
    assert pool.free() == 0
    third: list[int] = []
    waiter = threading.Thread(target=lambda: third.append(pool.get()))
    waiter.start()
    pool.put(first)
    waiter.join(60)
    assert third == [first]
    pool.put(second)
    with pool.item() as item:
        assert item == second
    assert made == [0, 1]


@pytest.mark.cinderlib("threads")
def test_cinder_knows_that_it_runs_on_threads(library: None) -> None:
    assert service_backend.get_backend_type() is service_backend.BackendType.THREADING
    assert cinder_utils.concurrency_mode_threading()


def test_netapp_finds_the_sections_of_all_backends(new_backend: Callable[..., Backend]) -> None:
    """It looks itself up in the configuration's sections, and there is no configuration file."""
    first, second = new_backend(), new_backend()
    assert {first.name, second.name} <= set(cfg.CONF.list_all_sections())


def test_the_context_is_an_administrators() -> None:
    assert runtime.CONTEXT.is_admin


ONLY_IPV6 = (
    'ip link set lo up; ip -6 address add fd00::5/64 dev lo; ip -6 route add default dev lo src fd00::5; exec "$@"'
)


@pytest.mark.root
def test_a_host_that_has_ipv6_alone_has_an_address(tmp_path: Path) -> None:
    code = f"""
        import json
        from oslo_config import cfg
        {SET_UP.format(locks=str(tmp_path))}
        from csi_plugin.attachment import connectors
        print(json.dumps([cfg.CONF.my_ip, connectors.connector_properties()["ip"]]))
    """
    assert answer(run(code, "unshare", "--net", "sh", "-c", ONLY_IPV6, "sh")) == ["fd00::5", "fd00::5"]
