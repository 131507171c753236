"""The configuration that a CinderBackend, with the Secret that it refers to, stands for."""

from collections.abc import Mapping, Sequence

from csi_plugin.known_secrets import keep_secret
from csi_plugin.persistence.crd.api import Forbidden, Missing
from csi_plugin.persistence.crd.backend_resources import BackendResources, DesiredBackend
from csi_plugin.persistence.crd.kinds import ACCEPT_MISSING
from csi_plugin.server.driver_names import full_driver_name
from csi_plugin.server.topology_rules import check_topologies
from csi_plugin.storage.backend_configuration import DEFAULT_CONCURRENCY, BackendConfiguration

_NO_OPTIONS = {
    "name": "the name of the resource",
    "volume_backend_name": "the name of the resource",
    "driver": "spec.driver",
    "volume_driver": "spec.driver",
    "topology": "spec.topology",
    "max_concurrent_operations": "spec.maxConcurrentOperations",
    "accept_missing_volumes": f"the annotation {ACCEPT_MISSING}=true",
    "strict": "nothing that can be set",
    "secret_options": "spec.secretRef",
}
"""Names that are no options, and what there is instead."""


class Refused(ValueError):
    """What an administrator wrote cannot be done; the message says why, and quotes nothing out of a Secret."""

    def __init__(self, reason: str, message: str) -> None:
        """``reason``: one CamelCase word, for a condition."""
        super().__init__(message)
        self.reason = reason


def configuration_of(
    desired: DesiredBackend, resources: BackendResources, *, topologies: Sequence[Mapping[str, str]]
) -> BackendConfiguration:
    """The configuration of a CinderBackend; ``topologies``: where it names none itself.

    Reads its Secret. Raises Refused, and PersistenceError when the API server is unreachable.
    """
    secret = _secret_options(desired, resources)
    for name in (*desired.options, *secret):
        if name in _NO_OPTIONS:
            raise Refused("InvalidConfiguration", f"{name} is not an option of a driver: it is {_NO_OPTIONS[name]}")
    if twice := sorted(desired.options.keys() & secret.keys()):
        raise Refused(
            "InvalidConfiguration",
            f"option {twice[0]} is in spec.options and in Secret {desired.secret}: it belongs into one of them",
        )
    topology = desired.topology or topologies
    try:
        check_topologies([("spec.topology", segments) for segments in topology])
    except ValueError as error:
        raise Refused("InvalidConfiguration", str(error)) from error
    limit = desired.max_concurrent_operations
    return BackendConfiguration(
        name=desired.name,
        driver=full_driver_name(desired.driver),
        options={**desired.options, **secret},
        secrets=frozenset(secret),
        topology=tuple(dict(segments) for segments in topology),
        max_concurrent_operations=DEFAULT_CONCURRENCY if limit is None else limit,
        accepts_missing_volumes=desired.accepts_missing_volumes,
    )


def _secret_options(desired: DesiredBackend, resources: BackendResources) -> dict[str, str]:
    if desired.secret is None:
        return {}
    try:
        options = resources.secret(desired.secret)
    except Missing as error:
        raise Refused("SecretNotFound", f"Secret {desired.secret} (spec.secretRef) does not exist") from error
    except Forbidden as error:
        raise Refused(
            "SecretForbidden",
            f"Secret {desired.secret} (spec.secretRef) may not be read by the controller: where the chart limits the "
            "Secrets that it may read, rbac.secretNames has to name this one",
        ) from error
    except ValueError as error:
        raise Refused("InvalidConfiguration", str(error)) from error
    keep_secret(options.values())
    return options
