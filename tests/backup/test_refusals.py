"""What does not fit is refused in one line before anything is written, and an interrupted run leaves nothing behind."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import zipfile

import pytest
from flask_migrate import downgrade

from signup.app import create_app
from signup.core.config import Config
from signup.core.db import database
from signup.core.snapshot import filled_tables, workshop
from tests.backup.conftest import keys_in, run, said, saved_in
from tests.conftest import _key, environment
from tests.guards.world import snapshot
from tests.support import log
from tests.support.servers import ROOT, clean_environment, run_flask

OTHER = _key(57)

# Stops in the middle of a part and waits to be killed there.
HANG = """
import sys
from contextlib import contextmanager
from signup.cli import backup
from wsgi import app

def hang(label, total):
    def tell(part, rows):
        if part == "disclosure":
            print("in the middle", flush=True)
            sys.stdin.read()
    yield tell

backup.told = contextmanager(hang)
with app.app_context():
    app.cli.main(args=sys.argv[1:])
"""


def kill_in_the_middle(environ, *arguments):
    """Run a command until it is in the middle of its rows, and kill it there."""
    process = subprocess.Popen(
        [sys.executable, "-c", HANG, *arguments],
        cwd=ROOT,
        env=clean_environment(**environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if line != "in the middle\n":
        process.kill()
        raise AssertionError(f"{line}{process.communicate()[1]}")
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def empty(place):
    with place.app.app_context(), database().engine.connect() as connection:
        return filled_tables(connection) == []


def rewrite(path, change):
    """The same backup with another manifest or other parts."""
    made = path.with_name(f"changed-{path.name}")
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(made, "w") as target:
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
    return made


def manifest_with(**values):
    def change(name, content):
        return json.dumps({**json.loads(content), **values}) if name == "manifest.json" else content

    return change


def test_nothing_is_restored_when_the_database_is_in_use(app, signup_and_confirm, backups):
    signup_and_confirm("anna@beispiel.de")
    data, keys = saved_in(app, backups)
    before = snapshot()
    assert "not empty" in said(run(app, "restore", str(data), "--keys", str(keys)))
    assert snapshot() == before


def test_keys_older_than_the_rows_are_refused_when_restoring(app, signup_and_confirm, elsewhere, backups):
    keys = keys_in(app, backups)
    signup_and_confirm("anna@beispiel.de")
    data, _ = saved_in(app, backups)
    assert "Take the newest keys file" in said(elsewhere.flask("restore", str(data), "--keys", str(keys)))
    assert empty(elsewhere)


def test_keys_older_than_the_database_are_refused_when_replayed(app, signup_and_confirm, backups):
    keys = keys_in(app, backups)
    signup_and_confirm("anna@beispiel.de")
    before = snapshot()
    assert "Take a newer keys file" in said(run(app, "restore", "--keys", str(keys)))
    assert snapshot() == before


@pytest.mark.parametrize("name", ["SIGNUP_PEPPER", "SIGNUP_DATA_KEY"])
def test_the_secret_is_named_when_it_is_another_one(app, signup_and_confirm, settle_elsewhere, backups, name):
    signup_and_confirm("anna@beispiel.de")
    data, keys = saved_in(app, backups)
    other = settle_elsewhere(**{name: OTHER})
    refusal = said(other.flask("restore", str(data), "--keys", str(keys)))
    assert name in refusal.split()[1]
    assert OTHER not in refusal
    assert empty(other)


def test_a_warning_is_given_when_mailed_links_would_not_work(app, signup_and_confirm, settle_elsewhere, backups):
    signup_and_confirm("anna@beispiel.de")
    data, keys = saved_in(app, backups)
    other = settle_elsewhere(SECRET_KEY="another-secret-key-with-enough-characters-9876543210")
    done = other.flask("restore", str(data), "--keys", str(keys))
    assert done.exit_code == 0, done.output
    assert "warning: SECRET_KEY" in done.stderr


def damaged(path):
    content = bytearray(path.read_bytes())
    # In the first part, behind its header.
    content[100] ^= 1
    path.write_bytes(content)
    return path


BAD = {
    "swapped": (lambda data, keys: (keys, data), "The file given as"),
    "no backup": (lambda data, keys: (_write(data.with_name("x.data"), b"hello"), keys), "not a whole backup"),
    "cut": (
        lambda data, keys: (_write(data.with_name("x.data"), data.read_bytes()[:-100]), keys),
        "not a whole backup",
    ),
    "bit": (lambda data, keys: (damaged(data), keys), "the part"),
    "bit in the keys": (lambda data, keys: (data, damaged(keys)), "the part"),
    "future": (lambda data, keys: (rewrite(data, manifest_with(revision="9999")), keys), "newer program"),
    "format": (lambda data, keys: (rewrite(data, manifest_with(format="signup.backup/9")), keys), "format"),
    "other rows": (lambda data, keys: (rewrite(data, _one_contact_less), keys), "the part contact"),
}


def _write(path, content):
    path.write_bytes(content)
    return path


def _one_contact_less(name, content):
    return content.partition(b"\n")[2] if name == "contact.jsonl" else content


def test_a_file_that_is_not_right_is_refused_when_restoring(app, signup_and_confirm, elsewhere, backups):
    signup_and_confirm("anna@beispiel.de")
    for case, (change, word) in BAD.items():
        data, keys = change(*saved_in(app, backups / case))
        assert word in said(elsewhere.flask("restore", str(data), "--keys", str(keys))), case
        assert empty(elsewhere)


def test_no_backup_is_there_when_it_was_killed_in_the_middle(app, place, signup_and_confirm, backups, tmp_path):
    signup_and_confirm("anna@beispiel.de")
    environ = environment(place.folder, place.url)
    keys_before = keys_in(app, backups)
    kill_in_the_middle(environ, "backup", str(backups))
    assert [path.suffix for path in backups.glob("signup-*.data")] == []
    left = list(backups.glob(".*.part"))
    assert len(left) == 1
    data, keys = saved_in(app, backups)
    assert list(backups.glob(".*.part")) == []
    assert {data, keys, keys_before} <= set(backups.iterdir())


def test_the_database_is_empty_and_can_be_restored_when_a_restore_was_killed(
    app, signup_and_confirm, elsewhere, backups
):
    person = signup_and_confirm("anna@beispiel.de")
    data, keys = saved_in(app, backups)
    kill_in_the_middle(elsewhere.environ, "restore", str(data), "--keys", str(keys))
    assert empty(elsewhere)
    elsewhere.restore(data, keys)
    with elsewhere.app.app_context():
        assert log.kinds(person.contact_id) == ["subscription.requested", "subscription.confirmed"]
    assert [path.name for path in elsewhere.folder.iterdir() if ".restoring" in path.name] == []


def test_the_second_is_refused_when_two_restores_run_at_once(app, signup_and_confirm, elsewhere, backups):
    signup_and_confirm("anna@beispiel.de")
    data, keys = saved_in(app, backups)
    with elsewhere.app.app_context(), workshop():
        done = run_flask("restore", str(data), "--keys", str(keys), environ=clean_environment(**elsewhere.environ))
        assert done.returncode == 2, done.stderr
        assert "Another restore" in done.stderr
    elsewhere.restore(data, keys)


def test_one_line_and_no_file_are_left_when_the_disk_is_full(app, signup_and_confirm, backups):
    signup_and_confirm("anna@beispiel.de")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        done = run(app, "backup", str(backups))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written" in said(done)
    # The keys file is small and was whole before the disk was full; it is good for any older data file.
    assert {path.suffix for path in backups.iterdir()} <= {".keys"}


def test_the_folder_is_named_when_it_cannot_be_written(app, tmp_path):
    target = tmp_path / "file"
    target.write_text("x")
    assert str(target) in said(run(app, "backup", str(target)))
    assert "cannot be written" in said(run(app, "backup", str(target / "below")))


def test_a_database_of_another_day_is_refused_when_it_is_to_be_saved(app, backups):
    downgrade(revision="-1")
    assert "flask db upgrade" in said(run(app, "backup", str(backups)))
    assert list(backups.iterdir()) == []


def test_rows_with_another_data_key_are_refused_when_they_are_to_be_saved(
    app, signup_and_confirm, place, settle_elsewhere, backups
):
    signup_and_confirm("anna@beispiel.de")
    other = create_app(Config.from_env(environment(place.folder, place.url, SIGNUP_DATA_KEY=OTHER)))
    assert "SIGNUP_DATA_KEY does not open" in said(run(other, "backup", str(backups)))
    assert list(backups.glob("*.data")) == []
    with other.app_context():
        database().engine.dispose()
