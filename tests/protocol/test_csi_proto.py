"""Our csi.proto says the same on the wire as the published one of CSI 1.13.0."""

import re
from importlib.resources import files
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from tests.support.project import PROJECT

OURS = PROJECT / "proto" / "csi.proto"
PUBLISHED = PROJECT / ".tools" / "specification" / "csi.proto"


def compiled(source: Path, directory: Path) -> descriptor_pb2.FileDescriptorProto:
    """Return the descriptor of one proto file, without its comments and its name."""
    output = directory / "descriptors"
    status = protoc.main(
        [
            "protoc",
            f"-I{source.parent}",
            f"-I{files('grpc_tools') / '_proto'}",
            f"--descriptor_set_out={output}",
            source.name,
        ]
    )
    assert status == 0
    (descriptor,) = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes()).file
    descriptor.ClearField("name")
    descriptor.ClearField("source_code_info")
    return descriptor


def sentences(source: Path) -> set[str]:
    """Return the sentences of the comments of a proto file, of five words or more."""
    text = " ".join(line.strip() for line in re.findall(r"//(.*)", source.read_text()))
    words = (" ".join(re.findall(r"[\w']+", sentence.lower())) for sentence in re.split(r"[.;:]\s", text))
    return {sentence for sentence in words if sentence.count(" ") >= 4}


@pytest.fixture(scope="module")
def published() -> Path:
    assert PUBLISHED.exists(), "make setup fetches the published csi.proto"
    return PUBLISHED


def test_is_wire_identical_to_the_published_protocol(published: Path, tmp_path: Path) -> None:
    ours, theirs = compiled(OURS, tmp_path), compiled(published, tmp_path)

    assert len(theirs.service) == 5
    assert ours == theirs
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


def test_comments_are_our_own(published: Path) -> None:
    assert sentences(OURS) & sentences(published) == set()
