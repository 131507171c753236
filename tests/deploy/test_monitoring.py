"""Alert rules and the dashboard."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.project import PROJECT

pytestmark = pytest.mark.kubernetes  # promtool is built with it
PROMTOOL = PROJECT / ".tools/bin/promtool"
RULES = PROJECT / "deploy/monitoring/alerts.yaml"
DASHBOARD = json.loads((PROJECT / "deploy/monitoring/dashboard.json").read_text())


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def expressions() -> Iterator[Any]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield pytest.param(target["expr"], id=panel["title"])


def test_the_rules_are_valid() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_each_alert_fires_when_it_has_to(tmp_path: Path) -> None:
    shutil.copyfile(RULES, tmp_path / "alerts.yaml")
    shutil.copyfile(Path(__file__).parent / "alerts_test.yaml", tmp_path / "alerts_test.yaml")
    promtool("test", "rules", tmp_path / "alerts_test.yaml")


def test_each_alert_is_tried_when_all_is_well_and_when_it_is_not() -> None:
    tried = yaml.safe_load((Path(__file__).parent / "alerts_test.yaml").read_text())["tests"]
    alerts = {rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]}
    asked = [found for test in tried for found in test["alert_rule_test"]]
    assert {found["alertname"] for found in asked if found.get("exp_alerts")} == alerts
    assert {found["alertname"] for found in asked if not found.get("exp_alerts")} == alerts


@pytest.mark.parametrize("expression", list(expressions()))
def test_the_dashboard_asks_what_prometheus_understands(expression: str) -> None:
    filled = expression.replace("$namespace", "box").replace("$__rate_interval", "5m")
    promtool("--experimental", "promql", "format", filled)


def test_every_metric_is_exported() -> None:
    """docs/metrics.md has those of a running server, which a test of the server sees to."""
    exported = set(re.findall(r"^\| `(\w+)` \|", (PROJECT / "docs/metrics.md").read_text(), re.MULTILINE))
    used = re.findall(r"\bcinderbox_[a-z_]+", RULES.read_text() + json.dumps(DASHBOARD))
    assert {re.sub(r"_(count|bucket|sum)$", "", name) for name in used} - exported == set()
