"""The values that the page about vendors' files shows are values that the chart takes."""

import re
from typing import Any

import pytest
import yaml

from tests.deploy.chart import one, render
from tests.support.project import PROJECT

pytestmark = pytest.mark.kubernetes  # helm is built with it

PAGE = PROJECT / "docs/backends/vendor-files.md"
EXAMPLES: list[dict[str, Any]] = [
    yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
]


@pytest.mark.parametrize("values", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_reaches_its_pods(values: dict[str, Any]) -> None:
    manifests = render({"backends": [{"name": "b", "driver": "RBD"}], **values})
    for part, kind in (("controller", "Deployment"), ("node", "DaemonSet")):
        pod = one(manifests, kind)["spec"]["template"]["spec"]
        container = next(found for found in pod["containers"] if found["name"] == "cinderbox")
        wanted = values.get(part, {})
        assert all(volume in pod["volumes"] for volume in wanted.get("extraVolumes", ()))
        assert all(mount in container["volumeMounts"] for mount in wanted.get("extraVolumeMounts", ()))
        assert all(variable in container["env"] for variable in wanted.get("extraEnv", ()))
