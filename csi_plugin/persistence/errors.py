"""What a store raises. Plugins and programs import these from ``csi_plugin.persistence.base``."""


class PersistenceError(Exception):
    """Base of the errors that a store raises. gRPC: UNAVAILABLE unless a subclass says otherwise."""


class RecordExists(PersistenceError):
    """create() met a record of the same kind and id. gRPC: ABORTED (another caller won)."""


class RecordNotFound(PersistenceError):
    """update() of a record that does not exist. gRPC: ABORTED (another caller deleted it)."""


class RevisionConflict(PersistenceError):
    """update() of a record that someone else has written since it was read. gRPC: ABORTED."""


class UnstorableText(PersistenceError):
    """The store cannot hold a text of the record, now or ever. gRPC: INVALID_ARGUMENT."""


class LeadershipLost(PersistenceError):
    """This process may no longer be the active controller; nothing was done. gRPC: UNAVAILABLE."""


class InvalidPersistence(Exception):
    """``persistence_config`` names no usable plugin, or gives it arguments that it does not take."""
