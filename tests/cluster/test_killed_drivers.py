"""The driver's pods are killed at random, in a real cluster, while claims come and go."""

import contextlib
import random
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster.cluster import Cluster, claim, task

SEED = 20261127
WAVES, CLAIMS_EACH = 3, 10
KILLS = 10
_WRITE = "[ ! -e /data/file ] && echo {name} > /data/file && sync"
_READ = '[ "$(cat /data/file)" = {name} ]'


@pytest.mark.timeout(600)
def test_claims_come_and_go_while_pods_are_killed(cluster: Cluster, driver: Cluster) -> None:
    """Thirty claims are made, attached, written, attached again, read and deleted; nothing of them is lost or left."""
    print(f"seed {SEED}")
    over = threading.Event()
    with ThreadPoolExecutor() as pool:
        killer = pool.submit(_kill_at_random, driver, random.Random(SEED), over)
        try:
            waves = [pool.submit(_live, cluster, wave) for wave in range(WAVES)]
            volumes = [volume for wave in waves for volume in wave.result()]
        finally:
            over.set()
        kills = killer.result()
    print(f"killed: {', '.join(kills)}")
    assert len(kills) >= KILLS / 2
    assert len(set(volumes)) == WAVES * CLAIMS_EACH
    cluster.wait_until_nothing_is_left(*volumes)


def _live(cluster: Cluster, wave: int) -> list[str]:
    """The whole life of some claims; the ids of their volumes."""
    names = [f"wave{wave}-{number}" for number in range(CLAIMS_EACH)]
    cluster.apply(*(claim(name) for name in names))
    for step, script in (("write", _WRITE), ("read", _READ)):
        pods = [f"{name}-{step}" for name in names]
        cluster.apply(
            *(task(f"{name}-{step}", name, script.format(name=name)) for name in names),
        )
        cluster.kubectl(
            "wait", *(f"pod/{pod}" for pod in pods), "--for=jsonpath={.status.phase}=Succeeded", "--timeout=300s"
        )
        cluster.kubectl("delete", "pod", *pods, "--wait=false")
    volumes = [cluster.volume_of(name) for name in names]
    cluster.kubectl("delete", "pvc", *names, "--timeout=300s")
    return volumes


def _kill_at_random(driver: Cluster, chance: random.Random, over: threading.Event) -> list[str]:
    """Kill a pod of the driver, or the processes of one, some seconds after the last; what was killed."""
    kills: list[str] = []
    while len(kills) < KILLS and not over.wait(chance.uniform(2, 7)):
        component, node = chance.choice([("controller", "node1"), ("node", "node1"), ("node", "node2")])
        found = driver.get("pods", labels=f"app.kubernetes.io/component={component}", fields=f"spec.nodeName={node}")
        if not found["items"]:
            continue
        name = found["items"][0]["metadata"]["name"]
        if chance.random() < 0.3:
            with contextlib.suppress(AssertionError, KeyError, subprocess.TimeoutExpired):  # it is on its way out
                driver.signal(name, "KILL", "cinderbox")
                kills.append(f"processes of {name}")
        else:
            driver.kubectl("delete", "pod", name, "--force", "--grace-period=0", "--wait=false", check=False)
            kills.append(name)
    return kills
