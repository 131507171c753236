"""How drivers run programs as root: in process, or through a root helper, rootwrap and privsep's daemon."""

import os
import shlex
import sys
from pathlib import Path

import cinder.privsep
import os_brick.privileged
from cinder import utils as cinder_utils
from oslo_config import cfg
from oslo_privsep import priv_context

from csi_plugin import durable_files
from csi_plugin.storage.cinder import driver_requirements


def configure(root_helper: str) -> None:
    """Root runs privileged code in process; others through ``root_helper`` with rootwrap and privsep's daemon."""
    is_root = os.geteuid() == 0
    for context in (
        cinder.privsep.sys_admin_pctxt,
        os_brick.privileged.default,
        os_brick.privileged.brick_privsep_hide_output,
    ):
        context.set_client_mode(not is_root)
    if is_root:
        return
    if not Path(cfg.CONF.rootwrap_config).exists():
        cfg.CONF.set_override("rootwrap_config", str(_write_rootwrap_configuration()))
    programs = Path(sys.prefix) / "bin"
    helper = f"{root_helper} {programs / 'cinder-rootwrap'} {cfg.CONF.rootwrap_config}"
    cinder_utils.get_root_helper = lambda: helper
    priv_context.init(root_helper=shlex.split(root_helper))
    for option in priv_context.OPTS:
        if option.name == "helper_command":
            # By its whole path: sudo looks in its own directories, which an environment's are not among.
            option.default = f"{root_helper} {programs / 'privsep-helper'}"


def _write_rootwrap_configuration() -> Path:
    """Rootwrap's configuration for the commands that the installed Cinder and os-brick list, and no others.

    Where /etc/cinder/rootwrap.conf exists it is used instead: there, sudo can be limited to it.
    """
    installed = Path(sys.prefix) / "etc"
    filters = [installed / package / "rootwrap.d" for package in ("cinder", "os-brick")]
    programs = [Path(sys.prefix) / "bin", *map(Path, driver_requirements.SYSTEM_PROGRAMS)]
    directory = Path(cfg.CONF.state_path)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = directory / "rootwrap.conf"
    text = (
        "[DEFAULT]\n"
        f"filters_path={','.join(str(path) for path in filters if path.is_dir())}\n"
        f"exec_dirs={','.join(map(str, programs))}\n"
        "use_syslog=False\n"
    )
    durable_files.write(target, text.encode(), mode=0o644)
    return target
