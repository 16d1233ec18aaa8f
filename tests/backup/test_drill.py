"""The restore drill: what was confirmed has its proof, who was erased stays erased, who left stays gone."""

from __future__ import annotations

import json
import re
import threading
import zipfile
from base64 import b64encode
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from signup.backup import settling
from signup.contacts import actions as contacts
from signup.core.db import reading, transaction
from signup.core.values import utc_now
from signup.eventlog.models import Publication
from signup.jobs import JobRow
from signup.mail.models import MessageState
from signup.privacy import retention
from signup.subscriptions import links
from signup.subscriptions.states import ConfirmationState, EndReason, Status
from signup.webhooks.models import Delivery, DeliveryState
from signup.worker import run_until_idle
from tests.backup.conftest import get, keys_in, run, saved_in
from tests.conftest import Clock
from tests.guards.world import rows, snapshot
from tests.support import log
from tests.support.pages import nonce
from tests.support.waiting import wait_for

BOTH = pytest.mark.parametrize(
    "target", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)
CANARY = "kanarienvogel@beispiel.de"


@pytest.fixture
def settings(smtp_server):
    return {"MAIL_SERVER": smtp_server.host, "MAIL_PORT": str(smtp_server.port)}


@pytest.fixture
def endpoint(client, demo, receiver):
    """An endpoint that hears of everything."""
    owner = {"Authorization": f"Bearer {demo.api_key}"}
    made = client.post("/api/v1/webhook-endpoints", json={"url": receiver.url}, headers=owner)
    assert made.status_code == 201, made.text
    return made.get_json()


def forget_unconfirmed(clock):
    """Time goes by until those who never confirmed are erased."""
    clock.forward(days=8)
    assert retention.run_now(clock)["erased"] >= 1


@BOTH
def test_every_row_is_the_same_when_restored_into_either_database(
    signup_and_confirm, sign_up, app, endpoint, elsewhere, backups
):
    for number in range(4):
        signup_and_confirm(f"anna{number}@beispiel.de", purposes=("product-news", "invitations"))
    sign_up("bert@beispiel.de")
    run_until_idle()
    signup_and_confirm("cora@beispiel.de")
    before = snapshot()
    elsewhere.restore(*saved_in(app, backups))
    after = elsewhere.rows()
    # The log has one event more and a new name, and the newest publication a higher number.
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"event", "disclosure", "publication", "log_key"}
    assert set(map(repr, before["log_key"])) < set(map(repr, after["log_key"]))
    assert set(map(repr, before["event"])) < set(map(repr, after["event"]))
    assert set(map(repr, before["disclosure"])) < set(map(repr, after["disclosure"]))
    assert len(set(map(repr, before["publication"])) - set(map(repr, after["publication"]))) == 1
    assert {"attempt", "data_key", "delivery", "job", "message"} <= {name for name in after if after[name]}


@BOTH
def test_proof_export_and_mailed_links_are_the_same_when_restored(
    signup_and_confirm, app, demo, elsewhere, backups, smtp_server
):
    people = [signup_and_confirm(f"anna{number}@beispiel.de") for number in range(3)]
    run_until_idle()
    data, keys = saved_in(app, backups)
    paths = [f"/api/v1/contacts/{person.contact_id}/evidence" for person in people]
    before = [get(app, demo.api_key, path).get_json() for path in paths]
    exported = get(app, demo.api_key, "/api/v1/export/subscriptions.csv").get_data()
    elsewhere.restore(data, keys)
    after = [elsewhere.get(path).get_json() for path in paths]
    assert after == before
    assert all(len(proof["facts"]) >= 3 for proof in after)
    assert elsewhere.get("/api/v1/export/subscriptions.csv").get_data() == exported
    person = people[0]
    assert elsewhere.post(person.unsubscribe_path, {"List-Unsubscribe": "One-Click"}).status_code == 200
    with elsewhere.app.app_context():
        assert log.subscription(person.contact_id).status is Status.ENDED
        assert "subscription.unsubscribed" in log.kinds(person.contact_id)


@BOTH
@pytest.mark.req("E29")
def test_who_was_erased_since_the_backup_stays_erased_when_it_is_restored(
    signup_and_confirm, sign_up, app, clock, elsewhere, backups, target
):
    anna = signup_and_confirm("anna@beispiel.de")
    canary = sign_up(CANARY)
    data, _ = saved_in(app, backups)
    forget_unconfirmed(clock)
    assert log.subscription(anna.contact_id).status is Status.ACTIVE
    counts = elsewhere.restore(data, keys_in(app, backups))
    assert (counts["contact"], counts["again erased"], counts["again key_lost"]) == (2, 1, 0)
    after = elsewhere.rows()
    assert [row.email for row in _in(elsewhere, "contact")] == [anna.email]
    told = repr(after)
    assert CANARY not in told
    assert canary.contact_id not in told
    if target == "sqlite":
        raw = b"".join(path.read_bytes() for path in elsewhere.folder.iterdir() if path.is_file())
        assert anna.email.encode() in raw
        assert CANARY.encode() not in raw
    # The next restore of the restored one knows of it too.
    assert len(after["erasure"]) == 1


def _in(elsewhere, table):
    with elsewhere.app.app_context():
        return rows(table)


def test_nobody_can_be_read_when_a_data_file_lies_around_alone(signup_and_confirm, sign_up, app, endpoint, backups):
    person = signup_and_confirm(CANARY)
    sign_up("bert@beispiel.de")
    run_until_idle()
    data, keys = saved_in(app, backups)
    (address_key,) = {row.address_key for row in rows("contact", email=CANARY)}
    for path in (data, keys):
        assert path.stat().st_mode & 0o777 == 0o600
        with zipfile.ZipFile(path) as archive:
            read = b"".join(archive.read(name) for name in archive.namelist())
        for word in (CANARY, "203.0.113.7", "Mozilla", person.unsubscribe_url.rpartition("/")[2]):
            assert word.encode() not in read, word
        assert person.contact_id.encode() in read
        assert b64encode(address_key) not in read


def test_who_was_erased_is_unreadable_when_only_old_data_and_new_keys_are_left(sign_up, app, clock, place, backups):
    canary = sign_up(CANARY)
    data, _ = saved_in(app, backups)
    forget_unconfirmed(clock)
    new_keys = keys_in(app, backups)
    with zipfile.ZipFile(new_keys) as archive:
        assert canary.contact_id.encode() not in archive.read("data_key.jsonl")
        assert archive.read("erasure.jsonl").count(b"\n") == 1
    with zipfile.ZipFile(data) as archive:
        assert canary.contact_id.encode() in archive.read("contact.jsonl")


@BOTH
def test_who_left_since_the_backup_stays_gone_when_it_is_restored(
    signup_and_confirm, sign_up, app, client, elsewhere, backups
):
    leaves = signup_and_confirm("leaves@beispiel.de")
    narrows = signup_and_confirm("narrows@beispiel.de", purposes=("product-news", "invitations"))
    refuses = sign_up("refuses@beispiel.de")
    stays = signup_and_confirm("stays@beispiel.de", purposes=("product-news", "invitations"))
    data, _ = saved_in(app, backups)
    client.post(leaves.unsubscribe_path, data={"List-Unsubscribe": "One-Click"})
    topic = _topic_link(narrows.contact_id)
    client.post(topic, data={"List-Unsubscribe": "One-Click"})
    client.post(refuses.not_me_path, data={"nonce": nonce(refuses.not_me_path)})
    ended_at = log.subscription(leaves.contact_id).ended_at
    counts = elsewhere.restore(data, keys_in(app, backups))
    assert (counts["again ended"], counts["again withdrawn"]) == (2, 1)
    with elsewhere.app.app_context():
        gone = log.subscription(leaves.contact_id)
        assert (gone.status, gone.end_reason, gone.ended_at) == (Status.ENDED, EndReason.UNSUBSCRIBED, ended_at)
        assert gone.ended_by == settling.BY_RESTORE
        assert log.kinds(leaves.contact_id)[-2:] == ["subscription.unsubscribed", "consent.withdrawn"]
        assert log.subscription(refuses.contact_id).status is Status.REFUSED
        assert {row.state for row in rows("confirmation", contact_id=refuses.contact_id)} == {
            ConfirmationState.CANCELLED
        }
        assert [message.state for message in log.messages(refuses.contact_id)] == [MessageState.CANCELLED]
        assert {row.reason.value for row in rows("suppression")} == {"unsubscribed", "not-me"}
        for person, given in ((narrows, 1), (stays, 2)):
            assert log.subscription(person.contact_id).status is Status.ACTIVE
            states = [row.state.value for row in rows("consent", contact_id=person.contact_id)]
            assert states.count("given") == given
        assert "undo" not in elsewhere.app.test_client().get(leaves.unsubscribe_path).text


def _topic_link(contact_id):
    """The path of the link that ends one topic, as the newest publication about the person told it."""
    with reading() as session:
        row = session.execute(
            select(Publication.payload).where(Publication.contact_id == contact_id).order_by(Publication.id.desc())
        ).first()
        payload = session.keys.unseal(contacts.open_key(session, contact_id), row.payload)
    link = json.loads(payload)["data"]["topics"][0]["list_unsubscribe"]
    return link.strip("<>").removeprefix("http://127.0.0.1:8000")


def test_who_came_back_before_the_backup_stays_when_an_older_ending_is_known(
    signup_and_confirm, app, client, elsewhere, backups
):
    person = signup_and_confirm("anna@beispiel.de", at=utc_now() - timedelta(hours=2))
    client.post(person.unsubscribe_path, data={"List-Unsubscribe": "One-Click"})
    signup_and_confirm("anna@beispiel.de", at=utc_now() + timedelta(hours=1))
    counts = elsewhere.restore(*saved_in(app, backups))
    assert counts["again ended"] == 0
    with elsewhere.app.app_context():
        assert log.subscription(person.contact_id).status is Status.ACTIVE


def test_what_was_due_goes_out_once_when_a_worker_had_it_in_hand(
    signup_and_confirm, sign_up, app, endpoint, elsewhere, backups, smtp_server, receiver
):
    sent = signup_and_confirm("sent@beispiel.de")
    run_until_idle()
    assert [mail.rcpt_tos for mail in smtp_server.received] == [(sent.email,)]
    waiting = sign_up("waiting@beispiel.de")
    signup_and_confirm("owed@beispiel.de")
    leased = {"lease_token": "dead", "next_at": utc_now() + timedelta(minutes=10)}
    with transaction() as session:
        session.execute(update(JobRow).values(**leased))
        session.execute(update(Delivery).where(Delivery.state == DeliveryState.DUE).values(**leased))
    heard = {request.headers["webhook-id"] for request in receiver.requests}
    elsewhere.restore(*saved_in(app, backups))
    with elsewhere.app.app_context():
        run_until_idle()
        assert log.messages(waiting.contact_id, MessageState.ACCEPTED)
        new = {row.publication_id for row in rows("delivery", state=DeliveryState.DELIVERED)} - heard
    assert sorted(mail.rcpt_tos[0] for mail in smtp_server.received).count(sent.email) == 1
    assert sorted(mail.rcpt_tos[0] for mail in smtp_server.received)[-1] == waiting.email
    assert new
    assert {request.headers["webhook-id"] for request in receiver.requests} == heard | new


def test_a_reader_of_the_feed_misses_nothing_when_it_read_on_after_the_backup(
    signup_and_confirm, app, demo, elsewhere, backups
):
    signup_and_confirm("before@beispiel.de")
    run_until_idle()
    data, keys = saved_in(app, backups)
    signup_and_confirm("lost@beispiel.de")
    run_until_idle()
    read_until = get(app, demo.api_key, "/api/v1/events").get_json()["items"][-1]["seq"]
    elsewhere.restore(data, keys)
    with elsewhere.app.app_context():
        fresh = rows("subscription")[0].contact_id
        elsewhere.app.test_client().post(_unsubscribe_path(fresh), data={"List-Unsubscribe": "One-Click"})
        run_until_idle()
    read = elsewhere.get(f"/api/v1/events?after={read_until}").get_json()["items"]
    assert {"subscription.unsubscribed", "consent.withdrawn"} <= {item["type"] for item in read}


def _unsubscribe_path(contact_id):
    held = log.subscription(contact_id)
    with reading() as session:
        return links.unsubscribe_url(session, held.id, held.epoch).removeprefix("http://127.0.0.1:8000")


def test_the_backup_is_of_one_moment_when_people_sign_up_meanwhile(app, signup_and_confirm, elsewhere, backups, place):
    stop, confirmed = threading.Event(), []

    def go_on(name):
        number = 0
        with app.app_context():
            while not stop.is_set():
                number += 1
                # Hours apart, or the network they all come from would be told to wait.
                at = utc_now() + timedelta(hours=number)
                confirmed.append(signup_and_confirm(f"{name}{number}@beispiel.de", at=at))

    threads = [threading.Thread(target=go_on, args=(name,)) for name in ("anna", "bert")]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(confirmed) >= 10, seconds=60, describe="ten people")
        known = list(confirmed)
        data, keys = saved_in(app, backups)
        since = len(confirmed)
        wait_for(lambda: len(confirmed) > since, seconds=60, describe="one more after the backup")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    counts = elsewhere.restore(data, keys)
    assert len(known) <= counts["subscription"] <= len(confirmed) + 2
    assert counts["contact"] == counts["subscription"] == counts["data_key"]
    assert (counts["again erased"], counts["again key_lost"]) == (0, 0)
    for person in known:
        with elsewhere.app.app_context():
            assert log.subscription(person.contact_id).status is Status.ACTIVE
            # Both happened in one millisecond, so their order is not told.
            assert set(log.kinds(person.contact_id)) == {"subscription.requested", "subscription.confirmed"}


def test_the_erased_go_again_when_the_database_came_back_by_other_means(
    signup_and_confirm, sign_up, app, elsewhere, backups, clock, client
):
    """An old copy of the disk, a database dump, a point in the write-ahead log: the keys file alone is enough."""
    leaves = signup_and_confirm("leaves@beispiel.de")
    canary = sign_up(CANARY)
    elsewhere.restore(*saved_in(app, backups))
    client.post(leaves.unsubscribe_path, data={"List-Unsubscribe": "One-Click"})
    forget_unconfirmed(clock)
    keys = keys_in(app, backups)
    with elsewhere.app.app_context():
        assert log.subscription(canary.contact_id).status is Status.REQUESTED
    done = elsewhere.flask("restore", "--keys", str(keys))
    assert done.exit_code == 0, done.output
    assert {"again erased\t1", "again ended\t1"} <= set(done.stdout.splitlines())
    assert CANARY not in repr(elsewhere.rows())
    with elsewhere.app.app_context():
        assert log.subscription(leaves.contact_id).status is Status.ENDED
    again = elsewhere.flask("restore", "--keys", str(keys_in(elsewhere.app, backups)))
    assert {"again erased\t0", "again ended\t0"} <= set(again.stdout.splitlines())


def test_the_restore_is_on_record_when_it_is_done(signup_and_confirm, sign_up, app, clock, elsewhere, backups):
    signup_and_confirm("anna@beispiel.de")
    sign_up(CANARY)
    data, _ = saved_in(app, backups)
    forget_unconfirmed(clock)
    elsewhere.restore(data, keys_in(app, backups))
    (event,) = [row for row in _in(elsewhere, "event") if row.kind.value == "backup.restored"]
    with elsewhere.app.app_context():
        told = b"".join(row.data for row in rows("disclosure", event_id=event.id)).decode()
    assert '"erased":1' in told
    assert re.search(r'"snapshot_at","20[0-9T:.-]+Z"', told)
    assert '"actor","operator"' in told


def test_a_backup_of_a_restored_database_restores_when_made_at_once(signup_and_confirm, app, elsewhere, backups):
    person = signup_and_confirm("anna@beispiel.de")
    elsewhere.restore(*saved_in(app, backups))
    done = run(elsewhere.app, "backup", str(backups / "second"))
    assert done.exit_code == 0, done.output
    with elsewhere.app.app_context():
        assert log.kinds(person.contact_id) == ["subscription.requested", "subscription.confirmed"]


@pytest.fixture
def clock():
    """In the past, so that what the clock is moved to is not after the keys file."""
    return Clock(utc_now())
