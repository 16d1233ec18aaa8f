"""The types of publication that endpoints can hear of: the one list of them."""

from __future__ import annotations

TEST_TYPE = "endpoint.test"
PAUSED_TYPE = "endpoint.paused"

# Every type of publication there is, and when it is made. docs list them from here.
TYPES: dict[str, str] = {
    "subscription.requested": "Somebody asked to subscribe; nobody has confirmed it yet. Off unless asked for by name.",
    "subscription.confirmed": "The person clicked the mailed link: double opt-in is complete.",
    "subscription.activated": "Active on another ground than a click: import, soft opt-in, contract.",
    "subscription.updated": "Purposes of an active subscription changed.",
    "subscription.restored": "The person took back an unsubscription at once.",
    "subscription.unsubscribed": "The subscription ended; the reason says how.",
    "subscription.expired": "Nobody confirmed in time.",
    "subscription.bounced": "The address does not take mail for good.",
    "consent.withdrawn": "One act of withdrawal, with its purposes.",
    "contact.created": "A contact came in on a basis that needs no confirmation.",
    "contact.updated": "Fields of a contact changed.",
    "contact.objected": "The person objected to processing.",
    "contact.restricted": "Processing of this contact is restricted.",
    "contact.erased": "The person was erased: ids only, forget them too.",
    PAUSED_TYPE: "An endpoint of yours gets nothing for now; what it is owed is held.",
    TEST_TYPE: "A test you asked for. Goes to the tested endpoint only, whatever types it chose.",
    "export.completed": "An export was made.",
}

# An unconfirmed address does not leave the system unless somebody decides so.
OFF_BY_DEFAULT = frozenset({"subscription.requested"})
DEFAULT_TYPES = tuple(name for name in TYPES if name not in OFF_BY_DEFAULT)
