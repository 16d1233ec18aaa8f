"""Signed notes: the example of their specification, and everything that must not pass as one."""

from __future__ import annotations

import base64

import pytest

from signup.eventlog import notes
from signup.eventlog.notes import Head, NoteInvalid, Signer, Verifier

# The example that the Go library of signed notes documents itself with.
VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NOTE = (
    f"{TEXT}\n"
    "\u2014 PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
SIGNER = Signer("signup.example.org/evidence", b"s" * 32)
HEAD = Head("signup.example.org/evidence", 7, b"r" * 32)


def published(vkey: str) -> Verifier:
    name, _, key = vkey.split("+", 2)
    return Verifier(name, base64.b64decode(key)[1:])


def test_a_key_and_a_note_of_another_program_are_read_when_they_are_well_known_ones() -> None:
    verifier = published(VKEY)
    assert verifier.vkey == VKEY
    assert verifier.opened(NOTE) == TEXT


def test_a_checkpoint_says_what_was_signed_when_it_is_whole() -> None:
    note = SIGNER.sign(HEAD.text)
    assert notes.head_of(note, SIGNER.verifier) == HEAD


def test_another_signature_below_does_no_harm_when_ours_is_there() -> None:
    note = SIGNER.sign(HEAD.text) + "\u2014 witness.example AAAAAAAA\n"
    assert notes.head_of(note, SIGNER.verifier) == HEAD


def test_a_note_is_refused_when_any_byte_of_it_differs() -> None:
    note = SIGNER.sign(HEAD.text)
    for at in range(len(note) - 1):
        altered = note[:at] + chr(ord(note[at]) ^ 1) + note[at + 1 :]
        with pytest.raises(NoteInvalid):
            notes.head_of(altered, SIGNER.verifier)


@pytest.mark.parametrize(
    "other", [Signer("signup.example.org/evidence", b"t" * 32), Signer("other.example/evidence", b"s" * 32)]
)
def test_a_note_is_refused_when_somebody_else_signed_it(other: Signer) -> None:
    with pytest.raises(NoteInvalid):
        notes.head_of(other.sign(HEAD.text), SIGNER.verifier)


@pytest.mark.parametrize(
    "text", ["signup.example.org/evidence\n7\n", "signup.example.org/evidence\nseven\ncg==\n", "x\n\n", "a\n07\ncg==\n"]
)
def test_a_signed_text_is_refused_when_it_is_no_checkpoint(text: str) -> None:
    with pytest.raises(NoteInvalid):
        notes.head_of(SIGNER.sign(text), SIGNER.verifier)
