"""An erased address is nowhere: not in a byte of the database's files, not in a file beside them."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from signup.consents import uses
from signup.consents.uses import Use
from signup.contacts import actions as contacts
from signup.core.db import database, scrub, transaction
from signup.core.values import OPERATOR, ClientInfo, EmailAddress, utc_now
from signup.eventlog import sealing
from signup.intake import actions as intake
from signup.intake import reports
from signup.intake.actions import Arrival
from signup.intake.kinds import Way
from signup.mail.catcher import Catcher
from signup.privacy import holds, retention
from signup.subscriptions import addresses
from signup.worker import run_until_idle
from tests.bounces.samples import dsn
from tests.guards.world import rows
from tests.support import log
from tests.support.receiver import Answer

BIRD = "kanarienvogel7f3a"
CANARY = f"{BIRD}@beispiel.de"
CLIENT = ClientInfo("203.0.113.77", "connection", f"Mozilla/5.0 ({BIRD})")
STAYS = "anna-bleibt@beispiel.de"


@pytest.fixture
def mailbox(tmp_path):
    catcher = Catcher(tmp_path / "mailbox")
    catcher.start()
    yield catcher
    catcher.stop()


@pytest.fixture
def settings(mailbox):
    return {"MAIL_SERVER": mailbox.host, "MAIL_PORT": str(mailbox.port)}


@pytest.fixture
def files(place, backend, request):
    """All files in which the service may leave something, after what the operations page says to do."""

    def read() -> dict[str, bytes]:
        found = {str(path): path.read_bytes() for path in place.folder.rglob("*") if path.is_file()}
        if backend == "postgres":
            found |= _vacuumed(place.url)
        assert len(found) > 2
        return found

    return read


# The samples of values that PostgreSQL keeps for its plans, and what is too long for their table.
STATISTICS = "pg_statistic"


def _vacuumed(url: str) -> dict[str, bytes]:
    """The files of the database by their names, compacted as docs/operations.md tells."""
    told = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
    steps = re.findall(r'-c "?(ANALYZE|VACUUM FULL|CHECKPOINT)\b', told)
    assert steps == ["ANALYZE", "VACUUM FULL", "CHECKPOINT"]
    database().engine.dispose()
    with psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://"), autocommit=True) as connection:
        for step in steps:
            connection.execute(step)
        (folder,) = connection.execute("SHOW data_directory").fetchone()
        (number,) = connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()
        samples = connection.execute(
            "SELECT pg_relation_filenode(oid), pg_relation_filenode(reltoastrelid) FROM pg_class WHERE relname = %s",
            [STATISTICS],
        ).fetchone()
    path = Path(folder) / "base" / str(number)
    try:
        files = [file for file in path.iterdir() if file.is_file()]
    except OSError:
        files = []
    if not files:
        pytest.skip(f"the files of the PostgreSQL server cannot be read here: {path}")
    kinds = {str(node): STATISTICS for node in samples}
    return {f"{kinds.get(file.name.partition('.')[0], 'table')} {file}": file.read_bytes() for file in files}


def found_in(files: dict[str, bytes], word: str | bytes) -> list[str]:
    data = word if isinstance(word, bytes) else word.encode()
    return [name for name, content in files.items() if data in content]


def everywhere(demo, client, signup_and_confirm, receiver):
    """A person who left traces in every holder that there is."""
    owner = {"Authorization": f"Bearer {demo.api_key}"}
    receiver.default = Answer(400, body=f"cannot take {CANARY}".encode())
    made = client.post("/api/v1/webhook-endpoints", json={"url": receiver.url}, headers=owner)
    assert made.status_code == 201, made.text
    person = signup_and_confirm(CANARY)
    run_until_idle()
    assert client.get(person.confirm_path, headers={"User-Agent": CLIENT.user_agent}).status_code == 200
    # A call about the person, whose answer is kept for its Idempotency-Key.
    use = {"campaign": f"letter to {BIRD}", "sender": BIRD, "channel": "post"}
    path = f"/api/v1/contacts/{person.contact_id}/uses"
    kept = {**owner, "Idempotency-Key": "once"}
    assert client.post(path, json=use, headers=kept).status_code == 201
    now = utc_now()
    with transaction() as session:
        contacts.learn(session, person.contact_id, {"first_name": BIRD}, now=now)
        uses.note_contact(
            session, demo.controller.id, person.contact_id, Use(BIRD, BIRD, "phone", now), actor=OPERATOR, now=now
        )
    with transaction() as session:
        to = EmailAddress.parse(f"neu-{CANARY}")
        # Late enough for the caps of the address.
        asked = {"client": CLIENT, "actor": OPERATOR, "now": now + timedelta(days=2)}
        addresses.ask(session, demo.controller.id, person.contact_id, to, **asked)
    raw = dsn(log.messages(person.contact_id)[0].message_id, status="4.2.2", recipient=CANARY)
    with transaction() as session:
        arrival = Arrival(Way.API, raw, reports.read(raw), intake.own_id(raw, ()))
        intake.take(session, demo.controller.id, arrival, now=now)
    with transaction() as session:
        ident = holds.place(session, demo.controller.id, person.contact_id, f"case of {BIRD}", actor=OPERATOR, now=now)
    with transaction() as session:
        holds.release(session, demo.controller.id, ident, f"{BIRD} settled", actor=OPERATOR, now=now)
    run_until_idle()
    sealing.run([], utc_now)
    return person


@pytest.mark.req("E26")
def test_an_erased_address_is_in_no_byte_of_any_file(
    demo, client, signup_and_confirm, receiver, files, place, backend, caplog
):
    signup_and_confirm(STAYS)
    person = everywhere(demo, client, signup_and_confirm, receiver)
    held = {
        name
        for name in (
            "contact",
            "consent",
            "subscription",
            "message",
            "publication",
            "event",
            "contact_use",
            "hold",
            "address_change",
            "inbound_report",
        )
        if rows(name, **{_owner(name): person.contact_id})
    }
    assert len(held) == 10, held
    (key,) = {row.address_key for row in rows("contact", id=person.contact_id)}
    assert found_in(files(), CANARY)
    caught = list((place.folder / "mailbox").glob("*.eml"))
    assert any(CANARY.encode() in path.read_bytes() for path in caught)
    with transaction() as session:
        retention.forget(session, [person.contact_id], "retention", now=utc_now())
    retention.run_now(utc_now)
    assert scrub()
    after = files()
    for word in (CANARY, BIRD, key):
        assert found_in(after, word) == [], word
    # A random id that leads nowhere may stay in the samples of a table that has no row any more.
    assert [name for name in found_in(after, person.contact_id) if not name.startswith(STATISTICS)] == []
    assert found_in(after, STAYS)
    assert BIRD not in caplog.text
    # What is left of the mails in the mailbox is other people's.
    left = list((place.folder / "mailbox").glob("*"))
    assert left
    assert len(list((place.folder / "mailbox").glob("*.eml"))) < len(caught)


def _owner(table: str) -> str:
    return "id" if table == "contact" else "contact_id"
