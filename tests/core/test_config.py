"""Settings: everything wrong is named at once, and nothing weak starts."""

import stat

import pytest

from signup.core.config import Config, ConfigError
from tests.conftest import environment


def problems(**environ):
    with pytest.raises(ConfigError) as caught:
        Config.from_env(environ)
    return "\n".join(caught.value.problems)


def complete(tmp_path, **more):
    base = environment(tmp_path)
    return {**base, "SIGNUP_ENV": "production", "PUBLIC_URL": "https://anmelden.example.org", **more}


def test_production_names_everything_that_is_missing(tmp_path):
    text = problems(SIGNUP_INSTANCE=str(tmp_path))
    for name in ("SECRET_KEY", "SIGNUP_PEPPER", "SIGNUP_DATA_KEY", "MAIL_SERVER", "PUBLIC_URL"):
        assert name in text
    assert list(tmp_path.iterdir()) == []


def test_a_complete_production_environment_is_read(tmp_path):
    config = Config.from_env(complete(tmp_path, DATABASE_URL="postgres://u:p@db/x", SIGNUP_TRUSTED_PROXIES="2"))
    assert config.database_url == "postgresql+psycopg://u:p@db/x"
    assert config.trusted_proxies == 2
    assert not config.development


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", "short"),
        ("SECRET_KEY", "a" * 64),
        ("SECRET_KEY_FALLBACKS", "dev"),
        ("SIGNUP_PEPPER", "AAAA"),
        ("SIGNUP_DATA_KEY", "not base64 at all"),
        ("SIGNUP_UNHEARD_OF", "1"),
        ("SIGNUP_ENV", "staging"),
        ("PORT", "eighty"),
        ("PUBLIC_URL", "anmelden.example.org"),
        ("PUBLIC_URL", "http://anmelden.example.org"),
        ("DATABASE_URL", "mysql://x"),
        ("SIGNUP_TRUSTED_PROXIES", "-1"),
        ("SIGNUP_OUTBOUND_ALLOW", "10.0.0.0/99"),
        ("MAIL_USE_TLS", "maybe"),
        ("SIGNUP_TOKEN_DAYS", "31"),
        ("SIGNUP_ALARM_MAIL", "ops@betrieb.example, nobody"),
        ("SIGNUP_ALARM_URL", "alarms.betrieb.example"),
        ("SIGNUP_ALARM_URL", "https://10.0.0.1/"),
        ("SIGNUP_ALARM_SECRET", "whsec_c2hvcnQ="),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, name, value):
    assert name in problems(**complete(tmp_path, **{name: value}))


def test_a_secret_may_come_from_a_file_but_not_from_both(tmp_path):
    path = tmp_path / "key"
    environ = complete(tmp_path)
    path.write_text(environ["SECRET_KEY"] + "\n")
    from_file = {**environ, "SECRET_KEY": "", "SECRET_KEY_FILE": str(path)}
    assert Config.from_env(from_file).secret_keys == (environ["SECRET_KEY"],)
    assert "not both" in problems(**{**environ, "SECRET_KEY_FILE": str(path)})
    assert "cannot be read" in problems(**{**from_file, "SECRET_KEY_FILE": str(tmp_path / "absent")})


def test_development_makes_its_secrets_once_for_its_owner_only(tmp_path):
    environ = {"SIGNUP_ENV": "development", "SIGNUP_INSTANCE": str(tmp_path)}
    first, second = Config.from_env(environ), Config.from_env(environ)
    assert first == second
    made = list((tmp_path / "secrets").iterdir())
    assert len(made) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}


def test_secrets_are_not_in_the_representation(tmp_path):
    environ = complete(tmp_path, MAIL_PASSWORD="hunter2-hunter2", MAIL_USERNAME="u")
    text = repr(Config.from_env(environ))
    for name in ("SECRET_KEY", "SIGNUP_PEPPER", "MAIL_PASSWORD"):
        assert environ[name] not in text


def test_a_database_file_that_cannot_be_made_is_named(tmp_path):
    from signup.app import create_app

    config = Config.from_env(complete(tmp_path, DATABASE_URL=f"sqlite:///{tmp_path}/no/such/folder/x.db"))
    with pytest.raises(ConfigError, match="DATABASE_URL"):
        create_app(config)


def test_only_its_owner_reads_the_database_file(tmp_path):
    from signup.app import create_app

    create_app(Config.from_env(environment(tmp_path / "new")))
    assert stat.S_IMODE((tmp_path / "new" / "signup.db").stat().st_mode) == 0o600
