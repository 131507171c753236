"""The one place where Cinder's database modules are imported: oslo.service must be told to use threads before."""

from oslo_service import backend

if backend.get_backend_type() is None:
    # Otherwise a program, or one of Cinder's own services, has loaded oslo.service and with it its default.
    backend.init_backend(backend.BackendType.THREADING)

from cinder.db import api, models

__all__ = ["api", "models"]
