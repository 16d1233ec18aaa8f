"""Signup: double opt-in with evidence."""

__version__ = "0.1.0"
