"""Tokens, keyed hashes and sealed bytes."""

from datetime import timedelta

import pytest

from signup.core.signing import Keys, new_token_id, token_hash

OLD, NEW = "old-secret-key-with-enough-characters-01234", "new-secret-key-with-enough-characters-56789"
PEPPER, DATA = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture
def keys():
    return Keys((OLD,), PEPPER, DATA)


@pytest.mark.req("A15")
def test_a_token_opens_for_its_purpose_only(keys):
    ident = new_token_id()
    token = keys.token("confirm", ident)
    assert keys.open_token("confirm", token) == ident
    assert keys.open_token("not-me", token) is None
    assert len(token) == 66


@pytest.mark.parametrize("token", ["", ".", "a.b", "ä", "x" * 500, "\x00", "AAAA.AAAA"])
def test_garbage_is_no_token(keys, token):
    assert keys.open_token("confirm", token) is None


def test_every_changed_character_breaks_a_token(keys):
    token = keys.token("confirm", b"0123456789abcdef")
    for position, char in enumerate(token[:-1]):
        changed = token[:position] + ("A" if char != "A" else "B") + token[position + 1 :]
        assert keys.open_token("confirm", changed) is None


@pytest.mark.req("A15")
def test_an_old_token_opens_after_the_key_was_rotated(keys):
    token = keys.token("confirm", b"0123456789abcdef")
    rotated = Keys((OLD, NEW), PEPPER, DATA)
    assert rotated.open_token("confirm", token) == b"0123456789abcdef"
    assert rotated.token("confirm", b"0123456789abcdef") != token
    assert Keys((NEW,), PEPPER, DATA).open_token("confirm", token) is None


def test_derived_ids_depend_on_purpose_subject_and_epoch_but_not_on_the_secret_key(keys):
    ident = keys.derived_id("unsubscribe", "sub_1", 1)
    assert Keys((NEW,), PEPPER, DATA).derived_id("unsubscribe", "sub_1", 1) == ident
    others = {
        keys.derived_id("preferences", "sub_1", 1),
        keys.derived_id("unsubscribe", "sub_2", 1),
        keys.derived_id("unsubscribe", "sub_1", 2),
    }
    assert len(others | {ident}) == 4


@pytest.mark.req("A17")
@pytest.mark.parametrize(("age", "fresh"), [(0.5, False), (1, True), (86_400, True), (86_401, False), (-5, False)])
def test_a_page_counts_from_one_second_to_one_day(keys, now, age, fresh):
    nonce = keys.page_nonce("confirm", b"id", now)
    assert keys.page_is_fresh("confirm", b"id", nonce, now + timedelta(seconds=age)) is fresh


def test_a_page_nonce_is_bound_to_its_page(keys, now):
    nonce = keys.page_nonce("confirm", b"id", now)
    later = now + timedelta(seconds=5)
    assert keys.page_is_fresh("confirm", b"other", nonce, later) is False
    assert keys.page_is_fresh("not-me", b"id", nonce, later) is False
    for garbage in ("", "x", nonce + "x", "ä", "1.2.3"):
        assert keys.page_is_fresh("confirm", b"id", garbage, later) is False


def test_sealed_bytes_open_with_their_own_key_only(keys):
    mine, wrapped = keys.new_data_key()
    other, _ = keys.new_data_key()
    sealed = keys.seal(mine, b"hello")
    assert keys.unseal(keys.unwrap(wrapped), sealed) == b"hello"
    assert b"hello" not in sealed
    with pytest.raises(ValueError, match="do not open"):
        keys.unseal(other, sealed)
    with pytest.raises(ValueError, match="do not open"):
        keys.unseal(mine, sealed[:-1] + bytes([sealed[-1] ^ 1]))


def test_the_stored_hash_is_not_the_id():
    ident = new_token_id()
    assert len(ident) >= 16
    assert token_hash(ident) != ident


def test_a_token_has_one_spelling(keys):
    token = keys.token("confirm", b"0123456789abcdef")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    body, signature = token.split(".")
    spellings = [f"{body}.{signature[:-1]}{char}" for char in alphabet] + [
        f"{body[:-1]}{c}.{signature}" for c in alphabet
    ]
    assert sum(keys.open_token("confirm", spelling) is not None for spelling in spellings) == 2
