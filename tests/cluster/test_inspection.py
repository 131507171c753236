"""What an admin sees and checks with kubectl and helm."""

from tests.cluster.cluster import Cluster, claim, pod, snapshot


def test_explain(driver: Cluster) -> None:
    def explained(field: str) -> str:
        return " ".join(driver.kubectl("explain", field).split())

    assert "A volume on the storage, as the driver has recorded it. What to edit is its claim." in explained("cvol")
    for field in ("cvol.spec", "cvol.spec.size", "cvol.status.attachedTo", "csnap.spec", "cconn.spec", "cnode.spec"):
        said = explained(field)
        assert "DESCRIPTION: <empty>" not in said
    assert "GiB" in explained("cvol.spec.size")


def test_category_shows_all_kinds(driver: Cluster, cluster: Cluster) -> None:
    cluster.apply(claim("orders"), pod("shop", "orders"))
    cluster.wait_running("shop")
    cluster.apply(snapshot("backup", "orders"))
    cluster.wait("volumesnapshot/backup", "jsonpath={.status.readyToUse}=true")
    kinds = {line.split(".")[0] for line in driver.kubectl("get", "cinderbox", "-o", "name").split()}
    assert {"cindervolume", "cindersnapshot", "cinderconnection", "cindernode", "cinderkeyvalue"} <= kinds
    registered = driver.kubectl("api-resources", "--categories=cinderbox", "-o", "name").split()
    assert registered == driver.kubectl("api-resources", "--api-group=cinderbox.io", "-o", "name").split()
    cluster.delete("pod", "shop")
    cluster.delete("volumesnapshot", "backup")
    cluster.delete("pvc", "orders")
