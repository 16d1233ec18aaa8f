"""The settings, read once from the environment and never changed afterwards."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from signup.core import evidence, intake, sending
from signup.core.addresses import Allowance, OutboundRefused, check_url
from signup.core.evidence import EvidenceConfig
from signup.core.intake import IntakeConfig
from signup.core.sending import SendingConfig

ENVIRONMENTS = ("production", "development")
# 32 bytes: the key size of AES-256 and the output size of SHA-256, which every key here feeds.
KEY_BYTES = 32
# A Flask secret shorter than this can be guessed offline from one signed token.
MIN_SECRET_CHARACTERS = 32
# Enough to find a typo; the operator's own server may take names that no public one would.
_ADDRESS = re.compile(r"[!-~]+@[!-~]+")
# A form with more sign-ups than this had better been busy before, or somebody looks.
FORM_PER_HOUR, MANY = 50, 1_000_000
WEAK_SECRETS = ("dev", "secret", "changeme", "change-me", "password", "test")

SETTINGS: dict[str, str] = {
    "SIGNUP_ENV": "production (default) or development",
    "SIGNUP_INSTANCE": "folder of the SQLite file, development secrets and development mailbox",
    "SIGNUP_PEPPER": "key of address hashes and unsubscribe links; never rotate it",
    "SIGNUP_DATA_KEY": "key that wraps each person's data key",
    "SIGNUP_DATA_KEY_FALLBACKS": "former data keys, comma separated, until flask data-key rewrap is done",
    "SIGNUP_TRUSTED_PROXIES": "how many proxies in front append to X-Forwarded-For",
    "SIGNUP_OUTBOUND_ALLOW": "CIDRs and hosts that webhooks may reach though private, http:// included",
    "SIGNUP_ALARM_MAIL": "addresses that are told when something is wrong, comma separated",
    "SIGNUP_ALARM_URL": "URL that is told when something is wrong",
    "SIGNUP_ALARM_SECRET": "whsec_ secret that signs what goes to SIGNUP_ALARM_URL",
    "SIGNUP_METRICS_TOKEN": "bearer token for /metrics from other machines",
    "SIGNUP_FORM_PER_HOUR": "sign-ups an hour that are ordinary for any form; more, and its mails are held",
    "SIGNUP_IP_DAYS": "days that addresses of visitors stay in the proof after a confirmation; 0: as long as it",
    "SIGNUP_PROOF_YEARS": "full calendar years that the proof of an ended consent is kept; 0: without end",
    "SIGNUP_TOKEN_DAYS": "days a confirmation link stays valid, 1 to 30",
    **intake.SETTINGS,
    **sending.SETTINGS,
    **evidence.SETTINGS,
}


class ConfigError(Exception):
    """The environment cannot be served; `problems` names every one of them."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class MailConfig:
    """How to reach the mail server; the names are Flask-Mail's."""

    server: str
    port: int
    use_tls: bool
    use_ssl: bool
    username: str | None
    password: str | None = field(repr=False)
    default_sender: str | None
    timeout_seconds: float
    ca_file: str | None


@dataclass(frozen=True)
class Config:
    """Everything the program may know about where it runs."""

    environment: str
    instance: Path
    database_url: str = field(repr=False)
    public_url: str
    host: str
    port: int
    secret_keys: tuple[str, ...] = field(repr=False)  # oldest first, the last one signs
    pepper: bytes = field(repr=False)
    data_key: bytes = field(repr=False)
    data_key_fallbacks: tuple[bytes, ...] = field(repr=False)
    evidence_key: bytes | None = field(repr=False)
    mail: MailConfig | None
    trusted_proxies: int
    outbound_allow: tuple[str, ...]
    metrics_token: str | None = field(repr=False)
    token_days: int
    ip_days: int  # 0: as long as the proof
    proof_years: int  # 0: without end
    form_per_hour: int
    alarm_mail: tuple[str, ...]
    alarm_url: str | None = field(repr=False)
    alarm_secret: str | None = field(repr=False)
    intake: IntakeConfig = field(default_factory=IntakeConfig)
    sending: SendingConfig = field(default_factory=SendingConfig)
    evidence: EvidenceConfig = field(default_factory=EvidenceConfig)

    @property
    def development(self) -> bool:
        return self.environment == "development"

    @property
    def evidence_seed(self) -> bytes:
        """The private key of checkpoints: its own, or one that nobody without the data key can derive."""
        return self.evidence_key or hmac.digest(self.data_key, b"signing key of checkpoints", "sha256")

    @property
    def sqlite(self) -> bool:
        return self.database_url.startswith("sqlite")

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Config:
        """Return the settings in `environ`, or raise naming everything that is wrong.

        In development missing secrets are made once and kept as files of mode 0600 under the instance folder.

        Raises:
            ConfigError: one or more settings are missing, weak, unreadable or unknown.
        """
        reader = _Reader(environ)
        config = reader.read()
        if config.pepper and config.pepper in (config.data_key, *config.data_key_fallbacks):
            reader.problems.append("SIGNUP_PEPPER and SIGNUP_DATA_KEY must differ: one key, one purpose")
        if reader.problems:
            raise ConfigError(reader.problems)
        return config


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.problems: list[str] = []
        self.environment = environ.get("SIGNUP_ENV") or "production"
        self.instance = Path(environ.get("SIGNUP_INSTANCE") or Path(__file__).parents[2] / "instance").absolute()

    def read(self) -> Config:
        self._refuse_unknown()
        if self.environment not in ENVIRONMENTS:
            self.problems.append(f"SIGNUP_ENV must be one of {', '.join(ENVIRONMENTS)}")
        host, port = self.environ.get("HOST") or "127.0.0.1", self._integer("PORT", 8000, 1, 65535)
        return Config(
            environment=self.environment,
            instance=self.instance,
            database_url=self._database_url(),
            public_url=self._public_url(port),
            host=host,
            port=port,
            secret_keys=(*self._fallbacks(), self._secret_key()),
            pepper=self._key("SIGNUP_PEPPER"),
            data_key=self._key("SIGNUP_DATA_KEY"),
            data_key_fallbacks=self._former_keys("SIGNUP_DATA_KEY_FALLBACKS"),
            evidence_key=self._key("SIGNUP_EVIDENCE_KEY") if self._has("SIGNUP_EVIDENCE_KEY") else None,
            mail=self._mail(),
            trusted_proxies=self._integer("SIGNUP_TRUSTED_PROXIES", 0, 0, 10),
            outbound_allow=self._outbound_allow(),
            metrics_token=self._text("SIGNUP_METRICS_TOKEN"),
            token_days=self._integer("SIGNUP_TOKEN_DAYS", 7, 1, 30),
            ip_days=self._integer("SIGNUP_IP_DAYS", 90, 0, 36500),
            proof_years=self._integer("SIGNUP_PROOF_YEARS", 3, 0, 100),
            form_per_hour=self._integer("SIGNUP_FORM_PER_HOUR", self._ordinary(), 1, MANY),
            alarm_mail=self._alarm_mail(),
            alarm_url=self._alarm_url(),
            alarm_secret=self._alarm_secret(),
            intake=self._intake(),
            sending=sending.read(self._text, self.problems),
            evidence=self._evidence(),
        )

    def _ordinary(self) -> int:
        # Tests and load on a developer's machine are no attack.
        return MANY if self.environment == "development" else FORM_PER_HOUR

    def _refuse_unknown(self) -> None:
        known = set(SETTINGS) | {f"{name}_FILE" for name in SETTINGS}
        for name in sorted(self.environ):
            if name.startswith("SIGNUP_") and name not in known:
                self.problems.append(f"{name} is not a setting of Signup; see docs/operations.md for the names")

    def _has(self, name: str) -> bool:
        return bool(self.environ.get(name) or self.environ.get(f"{name}_FILE"))

    def _text(self, name: str) -> str | None:
        path = self.environ.get(f"{name}_FILE")
        if path and self.environ.get(name):
            self.problems.append(f"set either {name} or {name}_FILE, not both")
        if not path:
            return self.environ.get(name) or None
        try:
            return Path(path).read_text(encoding="utf-8").strip() or None
        except OSError as error:
            self.problems.append(f"{name}_FILE cannot be read: {error.strerror}")
            return None

    def _made_in_development(self, name: str, make: Callable[[], str]) -> str | None:
        """The value of `name`; in development made on the first start and kept."""
        value = self._text(name)
        if value or self.environment != "development" or self._has(name):
            return value
        folder = self.instance / "secrets"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / name.lower()
        if not path.exists():
            _write_once(path, make())
        return path.read_text(encoding="utf-8").strip()

    def _secret_key(self) -> str:
        value = self._made_in_development("SECRET_KEY", lambda: secrets.token_urlsafe(48))
        if not value:
            self.problems.append("SECRET_KEY is missing: set it to at least 32 random characters")
            return ""
        self._check_strength("SECRET_KEY", value)
        return value

    def _fallbacks(self) -> tuple[str, ...]:
        values = tuple(part.strip() for part in (self._text("SECRET_KEY_FALLBACKS") or "").split(",") if part.strip())
        for value in values:
            self._check_strength("SECRET_KEY_FALLBACKS", value)
        return values

    def _check_strength(self, name: str, value: str) -> None:
        if len(value) < MIN_SECRET_CHARACTERS or value.lower() in WEAK_SECRETS or len(set(value)) < 8:
            self.problems.append(f"{name} is weak: use at least {MIN_SECRET_CHARACTERS} random characters")

    def _key(self, name: str) -> bytes:
        value = self._made_in_development(name, lambda: urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode())
        if not value:
            self.problems.append(f"{name} is missing: set it to {KEY_BYTES} random bytes in base64url")
            return b""
        return self._decoded(name, value)

    def _former_keys(self, name: str) -> tuple[bytes, ...]:
        values = (part.strip() for part in (self._text(name) or "").split(","))
        return tuple(self._decoded(name, value) for value in values if value)

    def _decoded(self, name: str, value: str) -> bytes:
        try:
            key = urlsafe_b64decode(value + "=" * (-len(value) % 4))
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES or len(set(key)) < 8:
            self.problems.append(f"{name} is weak: it must be {KEY_BYTES} random bytes in base64url")
        return key

    def _integer(self, name: str, default: int, low: int, high: int) -> int:
        text = self.environ.get(name)
        if not text:
            return default
        if not re.fullmatch(r"\d{1,9}", text) or not low <= int(text) <= high:
            self.problems.append(f"{name} must be a whole number from {low} to {high}")
            return default
        return int(text)

    def _flag(self, name: str) -> bool:
        text = (self.environ.get(name) or "false").lower()
        if text not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
            self.problems.append(f"{name} must be true or false")
        return text in ("true", "1", "yes", "on")

    def _database_url(self) -> str:
        url = self._text("DATABASE_URL")
        if not url:
            return f"sqlite:///{self.instance / 'signup.db'}"
        for prefix in ("postgres://", "postgresql://"):
            if url.startswith(prefix):
                return "postgresql+psycopg://" + url.removeprefix(prefix)
        if not url.startswith(("sqlite:///", "postgresql+psycopg://")):
            self.problems.append("DATABASE_URL must start with sqlite:/// or postgresql://")
        return url

    def _public_url(self, port: int) -> str:
        url = self.environ.get("PUBLIC_URL")
        if not url:
            if self.environment == "production":
                self.problems.append(
                    "PUBLIC_URL is missing: the address that visitors reach, such as https://example.org"
                )
            return f"http://127.0.0.1:{port}"
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            self.problems.append("PUBLIC_URL must be an http(s) address without query or fragment")
        elif parts.scheme == "http" and self.environment == "production" and not _is_loopback(parts.hostname):
            self.problems.append("PUBLIC_URL must use https in production")
        return url.rstrip("/")

    def _mail(self) -> MailConfig | None:
        server = self.environ.get("MAIL_SERVER")
        if not server:
            if self.environment == "production":
                self.problems.append("MAIL_SERVER is missing: name the mail server that accepts our mail")
            return None
        tls, ssl = self._flag("MAIL_USE_TLS"), self._flag("MAIL_USE_SSL")
        if tls and ssl:
            self.problems.append("set MAIL_USE_TLS (STARTTLS) or MAIL_USE_SSL, not both")
        return MailConfig(
            server=server,
            port=self._integer("MAIL_PORT", 465 if ssl else 587 if tls else 25, 1, 65535),
            use_tls=tls,
            use_ssl=ssl,
            username=self._text("MAIL_USERNAME"),
            password=self._text("MAIL_PASSWORD"),
            default_sender=self.environ.get("MAIL_DEFAULT_SENDER"),
            timeout_seconds=self._integer("MAIL_TIMEOUT", 20, 1, 300),
            ca_file=self.environ.get("MAIL_CA_FILE"),
        )

    def _intake(self) -> IntakeConfig:
        most = self._integer("SIGNUP_SOFT_BOUNCES", intake.DEFAULT_SOFT_BOUNCES, 1, 100)
        return intake.read(self._text, most, self.problems)

    def _evidence(self) -> EvidenceConfig:
        pause = self._integer("SIGNUP_SEAL_SECONDS", evidence.DEFAULT_SEAL_SECONDS, *evidence.SEAL_SECONDS)
        return evidence.read(self._text, pause, self._allowed(), self.problems)

    def _outbound_allow(self) -> tuple[str, ...]:
        entries = self._allowed()
        for entry in entries:
            try:
                Allowance.parse([entry])
            except ValueError as error:
                self.problems.append(f"SIGNUP_OUTBOUND_ALLOW: {error}")
        return entries

    def _allowed(self) -> tuple[str, ...]:
        text = self.environ.get("SIGNUP_OUTBOUND_ALLOW") or ""
        return tuple(part.strip() for part in text.split(",") if part.strip())

    def _alarm_mail(self) -> tuple[str, ...]:
        addresses = tuple(
            part.strip() for part in (self.environ.get("SIGNUP_ALARM_MAIL") or "").split(",") if part.strip()
        )
        if not all(_ADDRESS.fullmatch(address) for address in addresses):
            self.problems.append("SIGNUP_ALARM_MAIL must hold mail addresses, separated by commas")
        return addresses

    def _alarm_url(self) -> str | None:
        url = self._text("SIGNUP_ALARM_URL")
        if url:
            try:
                check_url(url, Allowance.parse(self._allowed()))
            except OutboundRefused as refusal:
                self.problems.append(f"SIGNUP_ALARM_URL: {refusal.detail}")
            except ValueError:
                pass  # the allowance is wrong, and is named for that already
        return url

    def _alarm_secret(self) -> str | None:
        secret = self._text("SIGNUP_ALARM_SECRET")
        if secret and not _is_signing_secret(secret):
            self.problems.append("SIGNUP_ALARM_SECRET must be whsec_ and 24 to 64 random bytes in Base64")
        return secret


def _is_signing_secret(text: str) -> bool:
    """Whether Standard Webhooks can sign with it."""
    try:
        key = b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        return False
    return text.startswith("whsec_") and 24 <= len(key) <= 64


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _write_once(path: Path, value: str) -> None:
    """Two processes starting together end up with the same file."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    temporary.touch(mode=0o600)
    temporary.write_text(value + "\n", encoding="utf-8")
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
