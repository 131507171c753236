"""The one place where Cinder's database modules are imported: oslo.service must be told to use threads before."""

from oslo_service import backend
from oslo_service.backend import exceptions

try:
    backend.init_backend(backend.BackendType.THREADING)
except exceptions.BackendAlreadySelected:
    if backend.get_backend_type() is not backend.BackendType.THREADING:
        raise

from cinder.db import api, models

__all__ = ["api", "models"]
