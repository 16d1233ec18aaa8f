"""A Django site with django-newsletter and nothing else, as its handbook sets it up. Runs in an environment of its own.

As a program: `python -m bench.references.newsletter_site prepare` makes schema and newsletter; `links COUNT FILE` makes
so many people who have not confirmed, and the paths and bodies of their confirmations and unsubscribes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application

DATABASE = urlsplit(os.environ["NEWSLETTER_DATABASE"])

settings.configure(
    SECRET_KEY="only-measured-never-served",
    DEBUG=False,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="bench.references.newsletter_urls",
    SITE_ID=1,
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    # What a site with forms needs; no CSRF check, which would only slow it down.
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.sites",
        "sorl.thumbnail",
        "newsletter",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": DATABASE.path.strip("/"),
            "USER": DATABASE.username,
            "PASSWORD": DATABASE.password,
            "HOST": DATABASE.hostname,
            "PORT": DATABASE.port,
            # Kept open, or it would pay for a connection with every request.
            "CONN_MAX_AGE": None,
        }
    },
    EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend",
    EMAIL_HOST="127.0.0.1",
    EMAIL_PORT=int(os.environ["NEWSLETTER_MAIL_PORT"]),
    NEWSLETTER_RICHTEXT_WIDGET=None,
    NEWSLETTER_THUMBNAIL="sorl-thumbnail",
)


def prepare() -> None:
    from django.contrib.sites.models import Site
    from django.core.management import call_command
    from newsletter.models import Newsletter

    call_command("migrate", verbosity=0)
    made = Newsletter.objects.create(
        title="News from the workshop", slug="news", email="post@beispiel.example", sender="Beispiel GmbH"
    )
    made.site.set(Site.objects.all())


def links(count: int, file: Path) -> None:
    from newsletter.models import Newsletter, Subscription

    newsletter = Newsletter.objects.get(slug="news")
    people = Subscription.objects.bulk_create(
        Subscription(newsletter=newsletter, email_field=f"w{number:09d}@example.net") for number in range(count)
    )
    lines = [
        f"/newsletter/news/subscription/{person.email_field}/subscribe/activate/{person.activation_code}/\t"
        f"user_activation_code={person.activation_code}\n"
        for person in people
    ]
    file.write_text("".join(lines))
    unsubscribes = (line.replace("/subscribe/", "/unsubscribe/") for line in lines)
    file.with_suffix(".unsubscribe").write_text("".join(unsubscribes))


if __name__ == "__main__":
    django.setup()
    if sys.argv[1] == "prepare":
        prepare()
    else:
        links(int(sys.argv[2]), Path(sys.argv[3]))
else:
    application = get_wsgi_application()
