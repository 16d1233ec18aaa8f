"""The settings of what comes back."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from signup.core.config import Config, ConfigError
from signup.core.intake import Listen
from tests.conftest import environment

TOPIC = "arn:aws:sns:eu-central-1:123456789012:bounces"
TOKEN = "brevo-tells-us-2f6c1d9a0b7e"


@pytest.fixture
def settings() -> dict[str, str]:
    return {
        "SIGNUP_BOUNCE_ADDRESS": "Bounce@Beispiel.example",
        "SIGNUP_BOUNCE_LISTEN": "smtp://[::1]:2525",
        "SIGNUP_SES_TOPICS": f"{TOPIC}, {TOPIC}-2",
        "SIGNUP_BREVO_TOKEN": TOKEN,
        "SIGNUP_SOFT_BOUNCES": "3",
    }


def test_the_operator_reads_them_without_the_token_when_checked(app: Flask) -> None:
    config = app.extensions["signup.config"].intake
    assert config.bounce_address == "bounce@beispiel.example"
    assert config.listen == Listen("smtp", "::1", 2525)
    assert config.ses_topics == (TOPIC, f"{TOPIC}-2")
    assert TOKEN not in repr(config)
    told = app.test_cli_runner().invoke(args=["check-config"]).output
    assert "mails return to    bounce@beispiel.example" in told
    assert "smtp://::1:2525, Amazon SES by 2 topics, Brevo" in told
    assert TOKEN not in told


def test_nothing_comes_back_by_itself_when_nothing_is_set(tmp_path: Path) -> None:
    config = Config.from_env(environment(tmp_path)).intake
    assert (config.bounce_address, config.unsubscribe_mailbox, config.listen, config.ses_topics) == (
        None,
        None,
        None,
        (),
    )
    assert config.soft_bounces == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SIGNUP_BOUNCE_ADDRESS", "bounce+x@beispiel.example"),
        ("SIGNUP_BOUNCE_ADDRESS", "bounce"),
        ("SIGNUP_BOUNCE_ADDRESS", "a-mailbox-with-22-char@beispiel.example"),
        ("SIGNUP_UNSUBSCRIBE_MAILBOX", "<leave@beispiel.example>"),
        ("SIGNUP_UNSUBSCRIBE_MAILBOX", "leave@beispiel.example>,<evil@x.example"),
        ("SIGNUP_BOUNCE_LISTEN", "127.0.0.1:24"),
        ("SIGNUP_BOUNCE_LISTEN", "lmtp://127.0.0.1:70000"),
        ("SIGNUP_SOFT_BOUNCES", "0"),
        ("SIGNUP_SES_TOPICS", "bounces"),
        ("SIGNUP_BREVO_TOKEN", "short"),
        ("SIGNUP_BREVO_TOKEN", "a" * 40),
    ],
)
def test_the_program_names_the_setting_when_it_is_wrong(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Config.from_env(environment(tmp_path, **{name: value}))
    assert [problem.split()[0] for problem in refused.value.problems] == [name]
