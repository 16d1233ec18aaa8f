"""Every table, imported once so that the metadata is whole."""

from signup.abuse import models as abuse
from signup.alarms import models as alarms
from signup.consents import models as consents
from signup.contacts import models as contacts
from signup.eventlog import models as eventlog
from signup.forms import models as forms
from signup.intake import models as intake
from signup.mail import models as mail
from signup.privacy import models as privacy
from signup.purposes import models as purposes
from signup.staff import models as staff
from signup.subscriptions import models as subscriptions
from signup.suppression import models as suppression
from signup.webhooks import models as webhooks

__all__ = [
    "abuse",
    "alarms",
    "consents",
    "contacts",
    "eventlog",
    "forms",
    "intake",
    "mail",
    "privacy",
    "purposes",
    "staff",
    "subscriptions",
    "suppression",
    "webhooks",
]
