"""Settings of what comes back by mail: bounces, complaints, mails that unsubscribe."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from signup.core.plus import MAX_LOCAL_CHARACTERS, TOKEN_CHARACTERS

SETTINGS: dict[str, str] = {
    "SIGNUP_BOUNCE_ADDRESS": "return path of our mails; each gets a token of its own behind a plus sign",
    "SIGNUP_UNSUBSCRIBE_MAILBOX": "mailbox whose mails unsubscribe; offered as mailto: beside the https link",
    "SIGNUP_BOUNCE_LISTEN": "lmtp:// or smtp:// host and port where the worker takes such mails",
    "SIGNUP_SOFT_BOUNCES": "soft bounces within 30 days after which an address counts as gone, 1 to 100",
    "SIGNUP_SES_TOPICS": "ARNs of the SNS topics whose Amazon SES notices are believed, comma separated",
    "SIGNUP_BREVO_TOKEN": "token with which Brevo sends its notices",
}

DEFAULT_SOFT_BOUNCES = 5
# Nobody guesses one by asking.
MIN_TOKEN_CHARACTERS = 24
_MAILBOX = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")
_LISTEN = re.compile(r"(lmtp|smtp)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")
TOPIC = re.compile(r"arn:aws(?:-[a-z]+)*:sns:([a-z0-9-]{3,40}):\d{12}:[A-Za-z0-9_-]{1,256}")


@dataclass(frozen=True)
class Listen:
    """Where mails are taken, and by which protocol."""

    protocol: str  # lmtp or smtp
    host: str
    port: int


@dataclass(frozen=True)
class IntakeConfig:
    """How reports about our mails reach us; without any of it nobody listens."""

    bounce_address: str | None = None
    unsubscribe_mailbox: str | None = None
    listen: Listen | None = None
    soft_bounces: int = DEFAULT_SOFT_BOUNCES
    ses_topics: tuple[str, ...] = ()
    brevo_token: str | None = field(default=None, repr=False)


def told(config: IntakeConfig) -> dict[str, str]:
    """The settings in words for the operator, without the token."""
    listen = config.listen
    boxes = [f"mail to {config.unsubscribe_mailbox}"] if config.unsubscribe_mailbox else []
    ways = [f"{listen.protocol}://{listen.host}:{listen.port}"] if listen else []
    ways += [f"Amazon SES by {len(config.ses_topics)} topics"] if config.ses_topics else []
    ways += ["Brevo"] if config.brevo_token else []
    return {
        "mails return to": config.bounce_address or "the sender of each controller",
        "unsubscribes by": ", ".join([*boxes, "https links"]),
        "reports come by": ", ".join([*ways, "files and the API"]),
        "soft bounces": f"{config.soft_bounces} within 30 days end a subscription",
    }


def read(text: Callable[[str], str | None], soft_bounces: int, problems: list[str]) -> IntakeConfig:
    """The settings; what is wrong with them is added to `problems`.

    Args:
        text: a setting by its name, or by the file that its name with _FILE points to.
    """
    return IntakeConfig(
        bounce_address=_mailbox("SIGNUP_BOUNCE_ADDRESS", text, problems),
        unsubscribe_mailbox=_mailbox("SIGNUP_UNSUBSCRIBE_MAILBOX", text, problems),
        listen=_listen(text("SIGNUP_BOUNCE_LISTEN"), problems),
        soft_bounces=soft_bounces,
        ses_topics=_topics(text("SIGNUP_SES_TOPICS"), problems),
        brevo_token=_token(text("SIGNUP_BREVO_TOKEN"), problems),
    )


def _topics(text: str | None, problems: list[str]) -> tuple[str, ...]:
    topics = tuple(part.strip() for part in (text or "").split(",") if part.strip())
    if not all(TOPIC.fullmatch(topic) for topic in topics):
        problems.append("SIGNUP_SES_TOPICS must hold ARNs of SNS topics, separated by commas")
    return topics


def _token(token: str | None, problems: list[str]) -> str | None:
    if token and (len(token) < MIN_TOKEN_CHARACTERS or len(set(token)) < 8):
        problems.append(f"SIGNUP_BREVO_TOKEN is weak: use at least {MIN_TOKEN_CHARACTERS} random characters")
    return token


def _mailbox(name: str, text: Callable[[str], str | None], problems: list[str]) -> str | None:
    address = text(name)
    if address is None:
        return None
    if not _MAILBOX.fullmatch(address):
        problems.append(f"{name} must be a plain mail address without a plus sign")
    elif len(address.partition("@")[0]) + 1 + TOKEN_CHARACTERS > MAX_LOCAL_CHARACTERS:
        room = MAX_LOCAL_CHARACTERS - 1 - TOKEN_CHARACTERS
        problems.append(f"{name} leaves no room for a token: at most {room} characters before the @")
    return address.lower()


def _listen(text: str | None, problems: list[str]) -> Listen | None:
    if text is None:
        return None
    found = _LISTEN.fullmatch(text)
    if not found or int(found[3]) > 65535:
        problems.append("SIGNUP_BOUNCE_LISTEN must be lmtp://host:port or smtp://host:port")
        return None
    return Listen(found[1], found[2].strip("[]"), int(found[3]))
