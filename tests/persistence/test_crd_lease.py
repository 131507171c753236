"""The Lease of the active controller, when somebody deletes it."""

from collections.abc import Iterator

import pytest

from csi_plugin.persistence.crd import CRDPersistence
from csi_plugin.persistence.leases import LeaseTerm
from tests.support.kubernetes_api import KubernetesAPI
from tests.support.polling import wait_until

pytestmark = pytest.mark.kubernetes

LEASE = "controller"


@pytest.fixture
def namespace(kubernetes: KubernetesAPI) -> str:
    return kubernetes.new_namespace()


@pytest.fixture
def stores(kubernetes: KubernetesAPI, namespace: str) -> Iterator[list[CRDPersistence]]:
    opened = [CRDPersistence(namespace=namespace, kubeconfig=str(kubernetes.kubeconfig)) for _ in range(2)]
    yield opened
    for store in opened:
        store.close()


def delete_lease(kubernetes: KubernetesAPI, namespace: str) -> None:
    kubernetes.kubectl("delete", "lease", f"cinderbox-{LEASE}", "-n", namespace)


def test_it_stays_its_holders(kubernetes: KubernetesAPI, namespace: str, stores: list[CRDPersistence]) -> None:
    first, second = stores
    assert first.acquire_lease(LEASE, holder="first", seconds=600)
    assert not second.acquire_lease(LEASE, holder="second", seconds=600)
    for _ in range(2):
        delete_lease(kubernetes, namespace)
        assert not second.acquire_lease(LEASE, holder="second", seconds=600)
        assert first.acquire_lease(LEASE, holder="first", seconds=600)
        assert not second.acquire_lease(LEASE, holder="second", seconds=600)
    assert first.lease_term(LEASE) == LeaseTerm(1)
    first.release_lease(LEASE, holder="first")
    assert second.acquire_lease(LEASE, holder="second", seconds=600)
    assert second.lease_term(LEASE) == LeaseTerm(2)
    assert not first.acquire_lease(LEASE, holder="first", seconds=600)


def test_it_passes_on_once_its_holder_is_over(
    kubernetes: KubernetesAPI, namespace: str, stores: list[CRDPersistence]
) -> None:
    first, second = stores
    assert first.acquire_lease(LEASE, holder="first", seconds=1)
    assert not second.acquire_lease(LEASE, holder="second", seconds=1)
    delete_lease(kubernetes, namespace)
    wait_until(lambda: second.acquire_lease(LEASE, holder="second", seconds=600), lambda: "nobody has it")
    # Its term is one of its own, and what the first one was doing may go on.
    assert second.lease_term(LEASE) == LeaseTerm(2, predecessor="first")
    assert not first.acquire_lease(LEASE, holder="first", seconds=1)
