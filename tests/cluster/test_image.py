"""The image, read from the archive that the cluster runs."""

import json
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.traces import DIRECTORY
from tests.support.project import PROJECT


class Image:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        (self._manifest,) = json.loads(self._member("manifest.json").read())
        self.configuration = json.loads(self._member(self._manifest["Config"]).read())["config"]

    def _member(self, name: str) -> Any:
        found = self._archive.extractfile(name)
        assert found is not None
        return found

    def read(self, path: str) -> str:
        """A file of the image, from the last layer that has it."""
        for layer in reversed(self._manifest["Layers"]):
            with tarfile.open(fileobj=self._member(layer)) as content:
                if path in content.getnames():
                    found = content.extractfile(path)
                    assert found is not None
                    return found.read().decode()
        raise AssertionError(f"no {path} in the image")


@pytest.fixture(scope="module")
def image(running: None) -> Iterator[Image]:
    with tarfile.open(DIRECTORY / "images/cinderbox.tar") as archive:
        yield Image(archive)


def test_labels_and_command(image: Image) -> None:
    version = [line for line in (PROJECT / "pyproject.toml").read_text().splitlines() if line.startswith("version")]
    labels = image.configuration["Labels"]
    assert f'version = "{labels["org.opencontainers.image.version"]}"' == version[0]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert image.configuration["Entrypoint"] == ["cinderbox"]
    assert image.configuration["Cmd"] == ["serve"]
    # What a controller without privileges runs as.
    assert "cinderbox:x:65532:65532::/var/lib/cinderbox:/usr/sbin/nologin" in image.read("etc/passwd").splitlines()


def test_list_of_contents(image: Image) -> None:
    bill = json.loads(image.read("opt/cinderbox/sbom.cdx.json"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    components = {one["name"]: one["version"] for one in bill["components"]}
    assert components["cinder"].startswith("29.")
    assert {"grpcio", "os-brick", "kubernetes"} <= set(components)
    # Built with EXTRAS="controller node crd" and CLIENTS="": what is not asked for is not there.
    assert not {"psycopg", "pymysql", "pytest"} & {name.lower() for name in components}
    installed = [line for line in image.read("var/lib/dpkg/status").splitlines() if line.startswith("Package: ")]
    assert "Package: e2fsprogs" in installed
    assert not {"Package: ceph-common", "Package: open-iscsi", "Package: lvm2"} & set(installed)
