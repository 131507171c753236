"""Networks of the cluster's services and pods, as the API server tells them: no storage is behind these by itself."""

import ipaddress
from collections.abc import Callable, Iterable

from csi_plugin.persistence.crd.api import Forbidden, Missing, ResourceAPI

_MOST = 16
"""That nodes are told: pods' networks are given out one after the other, and so are few when they are put together."""


class ClusterNetworks:
    """What the last look found. One thread calls look(), others ask."""

    def __init__(self, api: ResourceAPI, *, of_pods: Callable[[], Iterable[str]]) -> None:
        """``of_pods``: those that Nodes have. Network plugins may have others, which nobody tells."""
        self._api = api
        self._of_pods = of_pods
        self._found: list[str] = []

    def all(self) -> list[str]:
        return self._found

    def look(self) -> None:
        """Raises PersistenceError."""
        try:
            services = list(self._api.list_in_cluster("networking.k8s.io", "v1", "servicecidrs"))
        except (Missing, Forbidden):
            services = []
        named = [cidr for service in services for cidr in service["spec"].get("cidrs") or []]
        self._found = together([*named, *self._of_pods()])


def together(texts: Iterable[str]) -> list[str]:
    """The same networks in as few as they take, without what is none."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            continue
    four = ipaddress.collapse_addresses(one for one in found if isinstance(one, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(one for one in found if isinstance(one, ipaddress.IPv6Network))
    return [str(one) for one in (*four, *six)][:_MOST]
