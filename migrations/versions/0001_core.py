"""The first tables: from form to proof to CRM."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Sortable text on SQLite, which has no times of its own.
TIME = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")

TABLES = (
    "consent_text",
    "consent",
    "confirmation",
    "attempt",
    "subscription",
    "submission",
    "purpose",
    "form_version",
    "endpoint_type",
    "delivery",
    "topic",
    "suppression",
    "publication",
    "message",
    "idempotency_key",
    "form",
    "endpoint",
    "disclosure",
    "contact",
    "api_key",
    "link_hits",
    "job",
    "event",
    "data_key",
    "controller",
    "budget",
)


def upgrade() -> None:
    op.create_table(
        "budget",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("spent", sa.Text(), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_budget"),
    )
    op.create_index("ix_budget_expiry", "budget", ["expires_at"])
    op.create_table(
        "controller",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("slug", sa.String(length=60), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("reply_to", sa.Text(), nullable=False),
        sa.Column("imprint_url", sa.Text(), nullable=False),
        sa.Column("privacy_url", sa.Text(), nullable=False),
        sa.Column("accent", sa.String(length=7), nullable=False),
        sa.Column("timezone", sa.String(length=40), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_controller"),
        sa.UniqueConstraint("slug", name="uq_controller_slug"),
    )
    op.create_table(
        "data_key",
        sa.Column("contact_id", sa.String(length=40), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("contact_id", name="pk_data_key"),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=True),
        sa.Column("contact_id", sa.String(length=40), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("occurred_at", TIME, nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.Column("leaf_index", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
        sa.UniqueConstraint("leaf_index", name="uq_event_leaf_index"),
    )
    op.create_index("ix_event_contact", "event", ["contact_id", "occurred_at"])
    op.create_index("ix_event_controller", "event", ["controller_id", "occurred_at", "id"])
    op.create_index(
        "ix_event_unsealed",
        "event",
        ["occurred_at", "id"],
        postgresql_where=sa.text("leaf_index IS NULL"),
        sqlite_where=sa.text("leaf_index IS NULL"),
    )
    op.create_table(
        "job",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("next_at", TIME, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.String(length=40), nullable=True),
        sa.Column("once_key", sa.String(length=80), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
    )
    op.create_index(
        "ix_job_due",
        "job",
        ["kind", "next_at"],
        postgresql_where=sa.text("state = 'due'"),
        sqlite_where=sa.text("state = 'due'"),
    )
    op.create_index("uq_job_once", "job", ["once_key"], unique=True)
    op.create_table(
        "link_hits",
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hits", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name="pk_link_hits"),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_api_key_controller_id_controller"),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.UniqueConstraint("key_hash", name="uq_api_key_key_hash"),
    )
    op.create_table(
        "contact",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("email_typed", sa.Text(), nullable=False),
        sa.Column("address_key", sa.LargeBinary(), nullable=False),
        sa.Column("locale", sa.String(length=10), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("legal_basis", sa.String(length=20), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_contact_controller_id_controller"),
        sa.PrimaryKeyConstraint("id", name="pk_contact"),
    )
    op.create_index("ix_contact_list", "contact", ["controller_id", "id"])
    op.create_index("uq_contact_address", "contact", ["controller_id", "address_key"], unique=True)
    op.create_table(
        "disclosure",
        sa.Column("event_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("field_class", sa.Text(), nullable=False),
        sa.Column("sealed", sa.Boolean(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["event.id"], name="fk_disclosure_event_id_event"),
        sa.PrimaryKeyConstraint("event_id", "name", name="pk_disclosure"),
    )
    op.create_table(
        "endpoint",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_old_secret", sa.LargeBinary(), nullable=True),
        sa.Column("old_secret_until", TIME, nullable=True),
        sa.Column("state_reason", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_endpoint_controller_id_controller"),
        sa.PrimaryKeyConstraint("id", name="pk_endpoint"),
    )
    op.create_index("ix_endpoint_controller_id", "endpoint", ["controller_id"])
    op.create_table(
        "form",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("slug", sa.String(length=60), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("allowed_origins", sa.Text(), nullable=False),
        sa.Column("live_version", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_form_controller_id_controller"),
        sa.PrimaryKeyConstraint("id", name="pk_form"),
        sa.UniqueConstraint("slug", name="uq_form_slug"),
    )
    op.create_index("ix_form_controller_id", "form", ["controller_id"])
    op.create_table(
        "idempotency_key",
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("sealed_body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["controller_id"], ["controller.id"], name="fk_idempotency_key_controller_id_controller"
        ),
        sa.PrimaryKeyConstraint("key_hash", name="pk_idempotency_key"),
    )
    op.create_index("ix_idempotency_key_expiry", "idempotency_key", ["expires_at"])
    op.create_table(
        "message",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("contact_id", sa.String(length=40), nullable=True),
        sa.Column("confirmation_id", sa.String(length=40), nullable=True),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("locale", sa.String(length=10), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("envelope_from", sa.Text(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("smtp_reply", sa.Text(), nullable=True),
        sa.Column("give_up_at", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("accepted_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_message_controller_id_controller"),
        sa.PrimaryKeyConstraint("id", name="pk_message"),
    )
    op.create_index("ix_message_contact", "message", ["contact_id"])
    op.create_index("ix_message_list", "message", ["controller_id", "id"])
    op.create_index("uq_message_message_id", "message", ["message_id"], unique=True)
    op.create_table(
        "publication",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("event_id", sa.String(length=40), nullable=True),
        sa.Column("contact_id", sa.String(length=40), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("sealed", sa.Boolean(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["event_id"], ["event.id"], name="fk_publication_event_id_event"),
        sa.PrimaryKeyConstraint("id", name="pk_publication"),
        sa.UniqueConstraint("seq", name="uq_publication_seq"),
    )
    op.create_index("ix_publication_contact", "publication", ["contact_id"])
    op.create_index("ix_publication_feed", "publication", ["controller_id", "seq"])
    op.create_index(
        "ix_publication_unnumbered",
        "publication",
        ["created_at", "id"],
        postgresql_where=sa.text("seq IS NULL"),
        sqlite_where=sa.text("seq IS NULL"),
    )
    op.create_table(
        "suppression",
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("address_key", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_suppression_controller_id_controller"),
        sa.PrimaryKeyConstraint("controller_id", "address_key", "reason", name="pk_suppression"),
    )
    op.create_table(
        "topic",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("slug", sa.String(length=60), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_topic_controller_id_controller"),
        sa.PrimaryKeyConstraint("id", name="pk_topic"),
        sa.UniqueConstraint("controller_id", "slug", name="uq_topic_controller_id_slug"),
    )
    op.create_table(
        "delivery",
        sa.Column("id", sa.String(length=90), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("publication_id", sa.String(length=40), nullable=False),
        sa.Column("endpoint_id", sa.String(length=40), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("next_at", TIME, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.String(length=40), nullable=True),
        sa.Column("trigger", sa.String(length=20), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_delivery_controller_id_controller"),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoint.id"], name="fk_delivery_endpoint_id_endpoint"),
        sa.ForeignKeyConstraint(["publication_id"], ["publication.id"], name="fk_delivery_publication_id_publication"),
        sa.PrimaryKeyConstraint("id", name="pk_delivery"),
    )
    op.create_index(
        "ix_delivery_due",
        "delivery",
        ["next_at"],
        postgresql_where=sa.text("state = 'due'"),
        sqlite_where=sa.text("state = 'due'"),
    )
    op.create_index(
        "ix_delivery_endpoint_due",
        "delivery",
        ["endpoint_id", "next_at"],
        postgresql_where=sa.text("state = 'due'"),
        sqlite_where=sa.text("state = 'due'"),
    )
    op.create_index("ix_delivery_endpoint", "delivery", ["endpoint_id", "state"])
    op.create_index("ix_delivery_list", "delivery", ["controller_id", "id"])
    op.create_index("uq_delivery_once", "delivery", ["publication_id", "endpoint_id"], unique=True)
    op.create_table(
        "endpoint_type",
        sa.Column("endpoint_id", sa.String(length=40), nullable=False),
        sa.Column("type", sa.String(length=60), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_endpoint_type_controller_id_controller"),
        sa.ForeignKeyConstraint(["endpoint_id"], ["endpoint.id"], name="fk_endpoint_type_endpoint_id_endpoint"),
        sa.PrimaryKeyConstraint("endpoint_id", "type", name="pk_endpoint_type"),
    )
    op.create_index("ix_endpoint_type_match", "endpoint_type", ["controller_id", "type"])
    op.create_table(
        "form_version",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("form_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("locale", sa.String(length=10), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("html", sa.Text(), nullable=False),
        sa.Column("css_sha256", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_form_version_controller_id_controller"),
        sa.ForeignKeyConstraint(["form_id"], ["form.id"], name="fk_form_version_form_id_form"),
        sa.PrimaryKeyConstraint("id", name="pk_form_version"),
        sa.UniqueConstraint("form_id", "number", name="uq_form_version_form_id_number"),
    )
    op.create_table(
        "purpose",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("topic_id", sa.String(length=40), nullable=False),
        sa.Column("slug", sa.String(length=60), nullable=False),
        sa.Column("channel", sa.String(length=20), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_purpose_controller_id_controller"),
        sa.ForeignKeyConstraint(["topic_id"], ["topic.id"], name="fk_purpose_topic_id_topic"),
        sa.PrimaryKeyConstraint("id", name="pk_purpose"),
        sa.UniqueConstraint("controller_id", "slug", name="uq_purpose_controller_id_slug"),
    )
    op.create_table(
        "submission",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("handle", sa.String(length=40), nullable=False),
        sa.Column("form_id", sa.String(length=40), nullable=False),
        sa.Column("contact_id", sa.String(length=40), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["form_id"], ["form.id"], name="fk_submission_form_id_form"),
        sa.PrimaryKeyConstraint("key", name="pk_submission"),
    )
    op.create_index("ix_submission_expiry", "submission", ["expires_at"])
    op.create_index("uq_submission_handle", "submission", ["handle"], unique=True)
    op.create_table(
        "subscription",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("contact_id", sa.String(length=40), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("ground", sa.Text(), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column("ended_by", sa.String(length=20), nullable=True),
        sa.Column("flagged", sa.Boolean(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("link_hash", sa.LargeBinary(), nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("activated_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("updated_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["contact_id"], ["contact.id"], name="fk_subscription_contact_id_contact"),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_subscription_controller_id_controller"),
        sa.PrimaryKeyConstraint("id", name="pk_subscription"),
    )
    op.create_index(
        "ix_subscription_unconfirmed",
        "subscription",
        ["ended_at"],
        postgresql_where=sa.text("status IN ('expired', 'refused') AND activated_at IS NULL"),
        sqlite_where=sa.text("status IN ('expired', 'refused') AND activated_at IS NULL"),
    )
    op.create_index("ix_subscription_list", "subscription", ["controller_id", "id"])
    op.create_index("uq_subscription_contact", "subscription", ["contact_id"], unique=True)
    op.create_index("uq_subscription_link", "subscription", ["link_hash"], unique=True)
    op.create_table(
        "attempt",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("delivery_id", sa.String(length=90), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("trigger", sa.String(length=20), nullable=False),
        sa.Column("started_at", TIME, nullable=False),
        sa.Column("milliseconds", sa.Integer(), nullable=False),
        sa.Column("ip", sa.Text(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("request_headers", sa.Text(), nullable=False),
        sa.Column("response_body", sa.LargeBinary(), nullable=True),
        sa.Column("next_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["delivery_id"], ["delivery.id"], name="fk_attempt_delivery_id_delivery"),
        sa.PrimaryKeyConstraint("id", name="pk_attempt"),
    )
    op.create_index("ix_attempt_delivery", "attempt", ["delivery_id", "number"])
    op.create_table(
        "confirmation",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("contact_id", sa.String(length=40), nullable=True),
        sa.Column("subscription_id", sa.String(length=40), nullable=True),
        sa.Column("form_id", sa.String(length=40), nullable=False),
        sa.Column("form_version_id", sa.String(length=40), nullable=False),
        sa.Column("act_id", sa.String(length=40), nullable=False),
        sa.Column("purpose_ids", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("page_host", sa.Text(), nullable=True),
        sa.Column("sent_at", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("closed_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_confirmation_controller_id_controller"),
        sa.ForeignKeyConstraint(["form_id"], ["form.id"], name="fk_confirmation_form_id_form"),
        sa.ForeignKeyConstraint(
            ["form_version_id"], ["form_version.id"], name="fk_confirmation_form_version_id_form_version"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_confirmation"),
    )
    op.create_index("ix_confirmation_contact", "confirmation", ["contact_id"])
    op.create_index(
        "ix_confirmation_expiry",
        "confirmation",
        ["expires_at"],
        postgresql_where=sa.text("state = 'open'"),
        sqlite_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "uq_confirmation_open",
        "confirmation",
        ["contact_id", "form_id"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
        sqlite_where=sa.text("state = 'open'"),
    )
    op.create_index("uq_confirmation_token", "confirmation", ["token_hash"], unique=True)
    op.create_table(
        "consent",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("contact_id", sa.String(length=40), nullable=False),
        sa.Column("purpose_id", sa.String(length=40), nullable=False),
        sa.Column("channel", sa.String(length=20), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("act_id", sa.String(length=40), nullable=False),
        sa.Column("legal_basis", sa.String(length=20), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("text_sha256", sa.String(length=64), nullable=False),
        sa.Column("form_version_id", sa.String(length=40), nullable=True),
        sa.Column("link_hash", sa.LargeBinary(), nullable=False),
        sa.Column("requested_at", TIME, nullable=False),
        sa.Column("given_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.Column("ended_by", sa.String(length=20), nullable=True),
        sa.ForeignKeyConstraint(["contact_id"], ["contact.id"], name="fk_consent_contact_id_contact"),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_consent_controller_id_controller"),
        sa.ForeignKeyConstraint(
            ["form_version_id"], ["form_version.id"], name="fk_consent_form_version_id_form_version"
        ),
        sa.ForeignKeyConstraint(["purpose_id"], ["purpose.id"], name="fk_consent_purpose_id_purpose"),
        sa.PrimaryKeyConstraint("id", name="pk_consent"),
    )
    op.create_index(
        "ix_consent_requested",
        "consent",
        ["requested_at"],
        postgresql_where=sa.text("state = 'requested'"),
        sqlite_where=sa.text("state = 'requested'"),
    )
    op.create_index("uq_consent_link", "consent", ["link_hash"], unique=True)
    op.create_index("uq_consent_purpose", "consent", ["contact_id", "purpose_id", "channel"], unique=True)
    op.create_table(
        "consent_text",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("controller_id", sa.String(length=40), nullable=False),
        sa.Column("purpose_id", sa.String(length=40), nullable=False),
        sa.Column("locale", sa.String(length=10), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["controller_id"], ["controller.id"], name="fk_consent_text_controller_id_controller"),
        sa.ForeignKeyConstraint(["purpose_id"], ["purpose.id"], name="fk_consent_text_purpose_id_purpose"),
        sa.PrimaryKeyConstraint("id", name="pk_consent_text"),
        sa.UniqueConstraint("purpose_id", "locale", "version", name="uq_consent_text_purpose_id_locale_version"),
    )


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
