"""Names for the people at the array: which cluster, namespace and claim a Cinder object belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from csi_plugin.controller.configuration import ControllerConfiguration

PREFIX = "csi.storage.k8s.io/"
CLAIM = (PREFIX + "pvc/namespace", PREFIX + "pvc/name")
SNAPSHOT = (PREFIX + "volumesnapshot/namespace", PREFIX + "volumesnapshot/name")
GROUP_SNAPSHOT = (PREFIX + "volumegroupsnapshot/namespace", PREFIX + "volumegroupsnapshot/name")

_LIMIT = 255
"""Characters that Cinder's schema has for a name, a description and a metadata value."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What the Cinder object is called; every text fits Cinder's limits."""

    name: str
    description: str
    metadata: dict[str, str] = field(default_factory=dict)


def make_labels(
    parameters: Mapping[str, str], configuration: ControllerConfiguration, *, csi_name: str, owner: tuple[str, str]
) -> Labels:
    """Labels of the object that the CO calls ``csi_name``.

    ``parameters`` are the request's: those that the sidecars add (``--extra-create-metadata``) are used, the others
    ignored. ``owner`` is one of CLAIM, SNAPSHOT and GROUP_SNAPSHOT.
    """
    driver_name, cluster_name = configuration.driver_name, configuration.cluster_name
    owned_by = "/".join(filter(None, (parameters.get(key, "") for key in owner)))
    name = "/".join(filter(None, (cluster_name, owned_by))) if owned_by else csi_name
    described = [f"{csi_name} of {driver_name}"]
    if owned_by:
        described.append(f"for {owned_by}")
    if cluster_name:
        described.append(f"in cluster {cluster_name}")
    metadata = {key: value for key, value in parameters.items() if key.startswith(PREFIX)}
    metadata |= {"cinderbox.io/name": csi_name, "cinderbox.io/driver": driver_name}
    if cluster_name:
        metadata["cinderbox.io/cluster"] = cluster_name
    return Labels(
        name=name[:_LIMIT],
        description=" ".join(described)[:_LIMIT],
        metadata={key[:_LIMIT]: value[:_LIMIT] for key, value in metadata.items()},
    )
