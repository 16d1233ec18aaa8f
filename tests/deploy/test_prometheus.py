"""The alert rules are good PromQL, speak of metrics that exist, and fire when they should."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from flask.testing import FlaskClient

from signup import wiring
from tests.support.programs import program
from tests.support.servers import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
RULES = FOLDER / "alerts.yml"

TESTS = f"""
rule_files: ["{RULES}"]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'up{{job="signup"}}', values: "1x10 0x10"}}
      - {{series: 'signup_jobs_oldest_seconds{{kind="mail.send"}}', values: "0+120x30"}}
      - {{series: 'signup_jobs_dead{{kind="mail.send"}}', values: "0x10 1x20"}}
    alert_rule_test:
      - {{eval_time: 8m, alertname: SignupDown, exp_alerts: []}}
      - eval_time: 14m
        alertname: SignupDown
        exp_alerts:
          - exp_labels: {{severity: page, job: signup}}
            exp_annotations: {{summary: "Web or database of Signup does not answer: sign-ups are lost."}}
      - {{eval_time: 7m, alertname: SignupMailStuck, exp_alerts: []}}
      - eval_time: 14m
        alertname: SignupMailStuck
        exp_alerts:
          - exp_labels: {{severity: page, kind: mail.send}}
            exp_annotations: {{summary: "Mails have been due for a quarter of an hour."}}
      - {{eval_time: 9m, alertname: SignupJobsDead, exp_alerts: []}}
      - eval_time: 12m
        alertname: SignupJobsDead
        exp_alerts:
          - exp_labels: {{severity: ticket, kind: mail.send}}
            exp_annotations: {{summary: "Jobs were given up: flask jobs list names them."}}
"""


def _expressions() -> dict[str, str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def _promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_rules_are_good_when_prometheus_reads_them() -> None:
    done = _promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_scrape_part_is_good_when_prometheus_reads_it(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    text = (FOLDER / "scrape.yml").read_text().replace("/etc/prometheus/signup-token", str(token))
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "alerts.yml").write_text(RULES.read_text())
    done = _promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    (tmp_path / "tests.yml").write_text(TESTS)
    done = _promtool("test", "rules", str(tmp_path / "tests.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", _expressions())
def test_each_metric_exists_when_a_rule_speaks_of_it(name: str, client: FlaskClient) -> None:
    told = set(re.findall(r"^# TYPE (\S+)", client.get("/metrics").text, re.MULTILINE))
    named = set(re.findall(r"\bsignup_\w+", _expressions()[name]))
    assert named <= told
    assert named or "up{" in _expressions()[name]


def test_each_kind_of_job_exists_when_a_rule_names_it() -> None:
    named = set(re.findall(r"[\"|]([a-z]+\.[a-z]+)[\"|]", " ".join(_expressions().values())))
    assert named
    assert named <= {kind.name for kind in wiring.JOBS}
