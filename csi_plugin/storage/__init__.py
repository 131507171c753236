"""The storage library: Cinder's volume drivers in this process, and the objects that a program works with.

Importing it imports Cinder's foundations, in the only order in which that works: threads are chosen for OpenStack's
service library first, since its default is eventlet, whose green threads deadlock under real ones; then the versioned
objects are registered, which other modules of Cinder expect when they are imported.
"""

import logging
import warnings

_handlers = list(logging.getLogger().handlers)
with warnings.catch_warnings():
    # Futurist looks whether eventlet is there, and eventlet warns everybody who imports it.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    from oslo_service import backend as _service_backend

    if _service_backend.get_backend_type() is None:
        # Otherwise one of Cinder's own services, which has chosen already, is loading a driver of ours.
        _service_backend.init_backend(_service_backend.BackendType.THREADING)

    from cinder import objects as _objects

    _objects.register_all()
    from cinder.common import config as _config

assert _config
for _handler in list(logging.getLogger().handlers):
    # Cinder gives the root logger a handler when it has none; that is the program's to decide.
    if _handler not in _handlers and type(_handler) is logging.StreamHandler:
        logging.getLogger().removeHandler(_handler)
