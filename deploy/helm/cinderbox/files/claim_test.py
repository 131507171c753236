"""What `helm test` runs: a claim, a pod that writes on it, a pod that reads it back, and nothing left.

Takes its settings from the environment. Ends with status 1 and the last events when a step takes too long or fails.
"""

import hashlib
import os
import sys
import time
import uuid
from collections.abc import Callable

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

NAMESPACE = os.environ["NAMESPACE"]
IMAGE = os.environ["IMAGE"]
PULL_POLICY = os.environ["IMAGE_PULL_POLICY"]
PULL_SECRETS = [{"name": name} for name in os.environ["PULL_SECRETS"].split()]
STORAGE_CLASS = os.environ["STORAGE_CLASS"]
SIZE = os.environ["SIZE"]
TIMEOUT = float(os.environ["TIMEOUT_SECONDS"])

NAME = f"cinderbox-test-{uuid.uuid4().hex[:8]}"
WRITE = "head -c 8388608 /dev/urandom > /data/file && sync && sha256sum < /data/file"
READ = "sha256sum < /data/file"


def main() -> int:
    config.load_incluster_config()
    core = client.CoreV1Api()
    passed = step(core, write_and_read)
    return 0 if step(core, remove) and passed else 1


def step(core: client.CoreV1Api, do: Callable[[client.CoreV1Api], str]) -> bool:
    """Do it and say what came of it."""
    try:
        print(do(core))
    except (ApiException, TimeoutError, RuntimeError) as error:
        print(f"FAILED: {error}")
        tell_events(core)
        return False
    return True


def write_and_read(core: client.CoreV1Api) -> str:
    core.create_namespaced_persistent_volume_claim(NAMESPACE, claim())
    written = output(core, f"{NAME}-writer", WRITE)
    read = output(core, f"{NAME}-reader", READ)
    if not read or written != read or read.split()[0] == hashlib.sha256().hexdigest():
        raise RuntimeError(f"wrote {written!r}, read {read!r}")
    return f"8 MiB written by one pod and read by another: {read.split()[0]}"


def claim() -> dict[str, object]:
    spec: dict[str, object] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": SIZE}}}
    if STORAGE_CLASS:
        spec["storageClassName"] = STORAGE_CLASS
    return {"metadata": {"name": NAME}, "spec": spec}


def pod(name: str, command: str) -> dict[str, object]:
    container = {
        "name": "main",
        "image": IMAGE,
        "imagePullPolicy": PULL_POLICY,
        "command": ["sh", "-ec", command],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    user = {"runAsNonRoot": True, "runAsUser": 65532, "fsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {
        "restartPolicy": "Never",
        "imagePullSecrets": PULL_SECRETS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": user,
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": NAME}}],
    }
    return {"metadata": {"name": name}, "spec": spec}


def output(core: client.CoreV1Api, name: str, command: str) -> str:
    """Run a pod to its end, and what it said."""
    core.create_namespaced_pod(NAMESPACE, pod(name, command))

    def has_ended() -> bool:
        phase = core.read_namespaced_pod(name, NAMESPACE).status.phase
        if phase == "Failed":
            raise RuntimeError(f"pod {name} failed: {core.read_namespaced_pod_log(name, NAMESPACE)}")
        return bool(phase == "Succeeded")

    wait(has_ended, f"pod {name} to end")
    said = str(core.read_namespaced_pod_log(name, NAMESPACE))
    core.delete_namespaced_pod(name, NAMESPACE)
    wait(lambda: is_gone(lambda: core.read_namespaced_pod(name, NAMESPACE)), f"pod {name} to go")
    return said


def is_gone(read: Callable[[], object]) -> bool:
    try:
        read()
    except ApiException as error:
        if error.status == 404:
            return True
        raise
    return False


def wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {TIMEOUT:.0f} s for {what}")
        time.sleep(1)


def remove(core: client.CoreV1Api) -> str:
    """Delete what is left, and wait until the claim is gone."""
    for name in (f"{NAME}-writer", f"{NAME}-reader"):
        is_gone(lambda name=name: core.delete_namespaced_pod(name, NAMESPACE))  # type: ignore[misc]
    is_gone(lambda: core.delete_namespaced_persistent_volume_claim(NAME, NAMESPACE))
    wait(lambda: is_gone(lambda: core.read_namespaced_persistent_volume_claim(NAME, NAMESPACE)), f"claim {NAME} to go")
    return "the claim is gone"


def tell_events(core: client.CoreV1Api) -> None:
    for event in core.list_namespaced_event(NAMESPACE).items:
        if NAME in event.involved_object.name:
            print(f"  {event.involved_object.kind} {event.involved_object.name}: {event.reason}: {event.message}")


if __name__ == "__main__":
    sys.exit(main())
