"""Webhooks: every event reaches every endpoint that asked for it, signed, at least once."""
