"""The storage library: Cinder's volume drivers in this process, and the objects that a program works with.

Importing it chooses threads for OpenStack's service library, which has to be done before anything of Cinder is
imported: its default is eventlet, whose green threads deadlock under real ones.
"""

import warnings

with warnings.catch_warnings():
    # Futurist looks whether eventlet is there, and eventlet warns everybody who imports it.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    from oslo_service import backend as _service_backend

    if _service_backend.get_backend_type() is None:
        # Otherwise one of Cinder's own services, which has chosen already, is loading a driver of ours.
        _service_backend.init_backend(_service_backend.BackendType.THREADING)
