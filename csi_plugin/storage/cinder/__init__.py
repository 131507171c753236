"""All that wraps Cinder: its runtime, options, driver calls, statistics, scheduler and adaptations of drivers.

Importing it imports Cinder's foundations, in the only order in which that works.
Threads are chosen for OpenStack's service library first, since its default is eventlet, whose green threads deadlock
under real ones; then the versioned objects are registered, which other modules of Cinder expect when they are imported.
Modules outside this folder take Cinder's names from here, so that they cannot come first.
"""

import logging
import warnings

_handlers = list(logging.getLogger().handlers)
with warnings.catch_warnings():
    # Futurist looks whether eventlet is there, and eventlet warns everybody who imports it.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    from oslo_service import backend as _service_backend

    if _service_backend.get_backend_type() is None:
        # Otherwise a program has loaded oslo.service and with it its default (see eventlet_threads.py), or
        # one of Cinder's own services, which has chosen already, is loading a driver of ours.
        _service_backend.init_backend(_service_backend.BackendType.THREADING)

    from cinder import objects as objects

    objects.register_all()
    from cinder import exception as exception
    from cinder import utils as cinder_utils
    from cinder.common import config as _config
    from cinder.objects import base as objects_base

__all__ = ["cinder_utils", "exception", "objects", "objects_base"]

assert _config
for _handler in list(logging.getLogger().handlers):
    # Cinder gives the root logger a handler when it has none; that is the program's to decide.
    if _handler not in _handlers and type(_handler) is logging.StreamHandler:
        logging.getLogger().removeHandler(_handler)
