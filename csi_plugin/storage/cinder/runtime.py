"""Cinder's runtime: everything process-wide that Cinder's drivers expect around them.

Importing this module gives threads to the drivers that name eventlet; ``configure`` sets options, locks and privileges
once per process. Nothing here touches the program's root logger, signal handlers or command line.
"""

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import os_brick
import urllib3
from cinder import context as cinder_context
from cinder import coordination, objects
from cinder.objects import base as objects_base
from oslo_config import cfg
from oslo_log import log as oslo_logging
from oslo_versionedobjects import fields

from csi_plugin.addresses import own_address
from csi_plugin.error_text import error_text
from csi_plugin.storage.cinder import eventlet_threads, object_graphs, privileges
from csi_plugin.storage.cinder import options as driver_options

if "grpc" not in sys.modules:
    # Commands that drivers start die with signal 6 now and then when gRPC's fork handlers run in the child.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

eventlet_threads.install()

DEFAULT_PROJECT_ID = "cinderlib"
DEFAULT_USER_ID = "cinderlib"
"""cinderlib's defaults, kept so that its metadata and ours name the same owner."""

CONTEXT = cinder_context.RequestContext(
    user_id=DEFAULT_USER_ID, project_id=DEFAULT_PROJECT_ID, is_admin=True, overwrite=False
)
"""The context of every call into Cinder."""

SILENCED_LOGGERS = (
    "brick_privsep_hide_output",
    "castellan",
    "cinder",
    "keystoneauth",
    "os_brick",
    "oslo_concurrency",
    "oslo_config",
    "oslo_db",
    "oslo_log",
    "oslo_messaging",
    "oslo_policy",
    "oslo_privsep",
    "oslo_service",
    "oslo_utils",
    "oslo_versionedobjects",
    "taskflow",
    "tooz",
)
"""Loggers of Cinder and its libraries, each with all below it."""

LOG = logging.getLogger(__name__)
# Ours are heard where the program listens, and nowhere else.
logging.getLogger("csi_plugin").addHandler(logging.NullHandler())

_lock = threading.Lock()
_configured = False


def configure(
    *,
    locks_path: str | None,
    root_helper: str,
    suppress_ssl_warnings: bool,
    disable_logs: bool | None,
    non_uuid_ids: bool,
    project_id: str | None,
    user_id: str | None,
    host: str | None,
    options: Mapping[str, Any],
) -> None:
    """Prepare the process for drivers; ``Backend.global_setup`` explains the parameters. Later calls do nothing.

    Raises ValueError for an ill-typed option (see ``options.set_global``).
    """
    global _configured
    with _lock:
        if _configured:
            return
        CONTEXT.project_id = project_id or DEFAULT_PROJECT_ID
        CONTEXT.user_id = user_id or DEFAULT_USER_ID
        object_graphs.install()
        if non_uuid_ids:
            _accept_any_id()
        _configure_options(host, locks_path, options)
        if disable_logs:
            _silence_logs()
        elif disable_logs is not None:
            _set_up_logs()
        if suppress_ssl_warnings:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        privileges.configure(root_helper)
        os_brick.setup(cfg.CONF)
        Path(_locks_path()).mkdir(parents=True, exist_ok=True)
        coordination.COORDINATOR.start()
        _configured = True


def _configure_options(host: str | None, locks_path: str | None, options: Mapping[str, Any]) -> None:
    if cfg.CONF._args is None:  # else the program uses oslo.config itself and has parsed its own command line
        # An empty list of arguments and files: the program's command line is none of Cinder's business.
        cfg.CONF([], project="cinder", default_config_files=[], default_config_dirs=[])
    if "state_path" not in options:
        cfg.CONF.set_default("state_path", str(_state_directory()))
    cfg.CONF.set_default("lock_path", locks_path or "$state_path/locks", "oslo_concurrency")
    cfg.CONF.set_default("backend_url", f"file://{locks_path or '$state_path/locks'}", "coordination")
    # Cinder's own default knows IPv4 alone. Targets of LVM, for one, are served there.
    cfg.CONF.set_default("my_ip", own_address())
    if host:
        cfg.CONF.set_override("host", host)
    driver_options.set_global(options)


def _state_directory() -> Path:
    """A directory of this user's alone, the same for all of the user's processes: they share its locks.

    Root's sudo may be given a configuration file that is in it, so it is never one that another user can prepare.
    """
    directory: Path | str = "the user's home"
    try:
        if os.geteuid() == 0:
            directory = Path("/var/lib/cinderbox")
        else:
            directory = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "cinderbox"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if directory.stat().st_uid == os.geteuid() and os.access(directory, os.W_OK, effective_ids=True):
            return directory
        reason = "it is not this user's alone"
    except (OSError, RuntimeError) as error:  # RuntimeError: neither HOME nor a user of this number
        reason = error_text(error)
    private = Path(tempfile.mkdtemp(prefix="cinderbox-"))
    LOG.warning(
        "%s cannot be used (%s): locks are in %s, which other processes do not know; set file_locks_path or state_path",
        directory,
        reason,
        private,
    )
    return private


def host() -> str:
    """The name under which this installation records its volumes (the part before the @ of a volume's host)."""
    return str(cfg.CONF.host)


def _locks_path() -> str:
    return str(cfg.CONF.oslo_concurrency.lock_path)


def _accept_any_id() -> None:
    for name in objects_base.CinderObjectRegistry.obj_classes():
        ovo_class = getattr(objects, name)
        if "id" in ovo_class.fields:
            ovo_class.fields["id"] = fields.StringField()


def _set_up_logs() -> None:
    """Logs as Cinder's options say (``log_file``, ``use_json``, ``debug``...), unless the program has its own."""
    if logging.getLogger().handlers:
        return
    hook = sys.excepthook
    oslo_logging.setup(cfg.CONF, "cinder", fix_eventlet=False)
    sys.excepthook = hook


def _silence_logs() -> None:
    """Only Cinder's and its libraries' loggers: the program's own logging is its own affair."""
    for name in SILENCED_LOGGERS:
        logger = logging.getLogger(name)
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
