"""Every line passes the redaction, also those that Python would print by itself."""

import json
import subprocess
import sys

import pytest

from tests.support.project import PROJECT

BEFORE = """
import logging, threading
from csi_plugin.server import logs

logs.configure(log_format={form!r}, level="debug")
log = logging.getLogger("cinder.volume.drivers.vendor")

class Unprintable:
    def __repr__(self):
        raise RuntimeError("password=hunter2")

class Finalized:
    def __del__(self):
        raise RuntimeError("password=hunter2")

def fail():
    raise RuntimeError("login as admin failed: password=hunter2")
"""


def said(code: str, form: str = "json") -> str:
    """What a process writes that runs the code with our logs."""
    program = [sys.executable, "-c", BEFORE.format(form=form) + code]
    done = subprocess.run(program, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert not done.stdout
    return done.stderr


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("log.info('login %s %s', {'password': 'hunter2'})", "login %s %s"),
        ("log.info('attempt %d', 'password=hunter2')", "attempt %d"),
        ("log.info('login of %s', Unprintable())", "login of %s"),
        ("threading.Thread(target=fail, name='poller').start()", "thread poller ends by an error"),
        ("Finalized()", "Finalized.__del__"),
        ("fail()", "the process ends by an error"),
    ],
    ids=["too few arguments", "of another type", "unprintable", "thread", "finalizer", "process"],
)
def test_what_python_would_print_by_itself(code: str, told: str, form: str) -> None:
    """Also the line of a driver whose arguments do not fit: Python would show them as they are."""
    text = said(code, form)
    assert told in text
    assert "hunter2" not in text
    if form == "json":
        assert [json.loads(line)["level"] in ("error", "critical") for line in text.splitlines()] == [True]


def test_a_line_that_nobody_can_read_stops_nothing() -> None:
    assert said("import os; os.close(2); log.info('lost'); fail()") == ""
