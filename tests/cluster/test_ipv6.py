"""In a cluster that has IPv6 alone, every listener, every probe and every address of a node is of that family."""

import ipaddress

import pytest

from tests.cluster.cluster import NODES, Cluster
from tests.support.polling import wait_until


@pytest.mark.timeout(300)
def test_a_claim_is_served_over_ipv6_alone(cluster: Cluster, driver: Cluster) -> None:
    def addresses_of_nodes() -> list[str]:
        return [one["spec"]["connector"]["ip"] for one in driver.get("cnode")["items"]]

    wait_until(lambda: len(addresses_of_nodes()) == len(NODES), driver.events, timeout=150)
    addresses_of_pods = [one["status"]["podIP"] for one in driver.get("pods")["items"]]
    assert addresses_of_pods
    assert {ipaddress.ip_address(one).version for one in (*addresses_of_nodes(), *addresses_of_pods)} == {6}
    cluster.check_claims_are_served()
