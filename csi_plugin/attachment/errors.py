"""Errors of attaching."""


class AttachmentError(Exception):
    """The volume cannot be attached as its connection information says. gRPC: FAILED_PRECONDITION."""


class OtherVolume(AttachmentError):
    """The device is not one volume's alone. gRPC: FAILED_PRECONDITION."""


class EncryptionError(AttachmentError):
    """The device cannot be opened as an encrypted volume. gRPC: FAILED_PRECONDITION."""


class OtherHost(Exception):
    """The volume was exported to a host that has another name for the storage than this one has now."""
