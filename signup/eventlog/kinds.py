"""The kinds of event, and how long each kind of field is kept."""

from __future__ import annotations

from enum import Enum


class EventType(Enum):
    """Every fact the log can hold. The value is stable: it is part of the evidence."""

    SUBSCRIPTION_REQUESTED = "subscription.requested"
    SUBSCRIPTION_CONFIRMED = "subscription.confirmed"
    SUBSCRIPTION_UPDATED = "subscription.updated"
    SUBSCRIPTION_ACTIVATED = "subscription.activated"
    SUBSCRIPTION_RESTORED = "subscription.restored"
    SUBSCRIPTION_UNSUBSCRIBED = "subscription.unsubscribed"
    SUBSCRIPTION_BOUNCED = "subscription.bounced"
    SUBSCRIPTION_EXPIRED = "subscription.expired"
    SUBSCRIPTION_REFUSED = "subscription.refused"
    CONFIRMATION_RESENT = "confirmation.resent"
    CONFIRMATION_CONTRADICTED = "confirmation.contradicted"
    REASON_GIVEN = "unsubscription.reason"
    CONSENT_WITHDRAWN = "consent.withdrawn"
    LINK_OPENED = "link.opened"
    LINK_ASKED = "link.asked"
    MAIL_ACCEPTED = "mail.accepted"
    MAIL_FAILED = "mail.failed"
    MAIL_BOUNCED = "mail.bounced"
    MAIL_DELAYED = "mail.delayed"
    MAIL_COMPLAINED = "mail.complained"
    MAIL_RECEIVED = "mail.received"
    CONTACT_CREATED = "contact.created"
    ADDRESS_CHANGE_ASKED = "contact.address-change-asked"
    CONTACT_UPDATED = "contact.updated"
    CONTACT_OBJECTED = "contact.objected"
    CONTACT_ERASED = "contact.erased"
    CONTACT_USED = "contact.used"
    CONSENT_USED = "consent.used"
    RETENTION_RUN = "retention.run"
    BACKUP_RESTORED = "backup.restored"
    DATA_KEY_ROTATED = "data-key.rotated"
    EXPORT_COMPLETED = "export.completed"
    EVIDENCE_READ = "evidence.read"
    HOLD_CREATED = "hold.created"
    HOLD_RELEASED = "hold.released"
    MAILS_RELEASED = "mails.released"
    MAILS_DISCARDED = "mails.discarded"
    FORM_ATTACKED = "form.attacked"
    FORM_ATTACK_OVER = "form.attack-over"
    FORM_PUBLISHED = "form.published"
    API_KEY_CREATED = "api-key.created"
    API_KEY_REVOKED = "api-key.revoked"
    DKIM_KEY_CHANGED = "dkim-key.changed"
    SENDER_CHECKED = "sender.checked"
    ENDPOINT_CREATED = "endpoint.created"
    ENDPOINT_CHANGED = "endpoint.changed"
    ENDPOINT_DELETED = "endpoint.deleted"
    ENDPOINT_DISABLED = "endpoint.disabled"
    LOG_SEALED = "log.sealed"


class FieldClass(Enum):
    """Decides how long a field is kept and whether it is sealed under the person's key."""

    RESIDUE = "residue"  # names nobody; outlives the person's data
    CONTENT = "content"  # what was shown, asked and answered
    IDENTITY = "identity"  # the address
    IP = "ip"
    USER_AGENT = "ua"


SEALED_CLASSES = frozenset({FieldClass.CONTENT, FieldClass.IDENTITY, FieldClass.IP, FieldClass.USER_AGENT})

FIELDS: dict[str, FieldClass] = {
    "type": FieldClass.RESIDUE,
    "time": FieldClass.RESIDUE,
    "actor": FieldClass.RESIDUE,
    "reason": FieldClass.RESIDUE,
    "form": FieldClass.RESIDUE,
    "form_version": FieldClass.RESIDUE,
    "form_version_stated": FieldClass.RESIDUE,
    "form_sha256": FieldClass.RESIDUE,
    "message_id": FieldClass.RESIDUE,
    "token_sha256": FieldClass.RESIDUE,
    "mail_sha256": FieldClass.RESIDUE,
    "smtp_server": FieldClass.RESIDUE,
    "smtp_reply": FieldClass.CONTENT,
    "smtp_status": FieldClass.RESIDUE,
    "report": FieldClass.CONTENT,
    "report_sha256": FieldClass.RESIDUE,
    "confirmation": FieldClass.RESIDUE,
    "consent": FieldClass.RESIDUE,
    "subscription": FieldClass.RESIDUE,
    "expires_at": FieldClass.RESIDUE,
    "ground": FieldClass.RESIDUE,
    "flagged": FieldClass.RESIDUE,
    "method": FieldClass.RESIDUE,
    "purpose_of_link": FieldClass.RESIDUE,
    "scanner": FieldClass.RESIDUE,
    "scanner_sign": FieldClass.RESIDUE,
    "seconds_since_sent": FieldClass.RESIDUE,
    "counts": FieldClass.RESIDUE,
    "policy": FieldClass.RESIDUE,
    "sealed_late": FieldClass.RESIDUE,
    "channel": FieldClass.RESIDUE,
    "used_at": FieldClass.RESIDUE,
    "hold": FieldClass.RESIDUE,
    "snapshot_at": FieldClass.RESIDUE,
    "filter": FieldClass.RESIDUE,
    "rows": FieldClass.RESIDUE,
    "file_sha256": FieldClass.RESIDUE,
    "endpoint": FieldClass.RESIDUE,
    "host": FieldClass.RESIDUE,
    "status": FieldClass.RESIDUE,
    "scopes": FieldClass.RESIDUE,
    "api_key": FieldClass.RESIDUE,
    "software": FieldClass.RESIDUE,
    "selector": FieldClass.RESIDUE,
    "log_size": FieldClass.RESIDUE,
    "note_sha256": FieldClass.RESIDUE,
    "timestamps": FieldClass.RESIDUE,
    # Without its token a mail could be guessed from its hash, so this one goes with the person.
    "mail_blanked_sha256": FieldClass.CONTENT,
    "email": FieldClass.IDENTITY,
    "fields": FieldClass.IDENTITY,
    "recipient": FieldClass.IDENTITY,
    "ip": FieldClass.IP,
    "ip_source": FieldClass.CONTENT,
    "user_agent": FieldClass.USER_AGENT,
    "page": FieldClass.CONTENT,
    "attribution": FieldClass.CONTENT,
    "origin_header": FieldClass.CONTENT,
    "fetch_site": FieldClass.CONTENT,
    "locale": FieldClass.CONTENT,
    "consent_texts": FieldClass.CONTENT,
    "boxes": FieldClass.CONTENT,
    "purposes": FieldClass.CONTENT,
    "notice": FieldClass.CONTENT,
    "legal_basis": FieldClass.CONTENT,
    "origin": FieldClass.CONTENT,
    "act": FieldClass.CONTENT,
    "granted_at": FieldClass.CONTENT,
    "campaign": FieldClass.CONTENT,
    "sender": FieldClass.CONTENT,
    "hold_reason": FieldClass.CONTENT,
    "signals": FieldClass.CONTENT,
    "source": FieldClass.CONTENT,
    "page_seconds": FieldClass.CONTENT,
    "subject": FieldClass.CONTENT,
    "frequency": FieldClass.CONTENT,
    "paused_until": FieldClass.CONTENT,
}
