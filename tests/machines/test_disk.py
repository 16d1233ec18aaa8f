"""A machine in production on PostgreSQL keeps nothing that it needs: its disk may be read-only or gone."""

from __future__ import annotations

from signup.eventlog import heads
from tests.faults.rig import until
from tests.machines.fleet import Fleet
from tests.machines.watch.sitecustomize import SIGN

PEOPLE = 10
# Gunicorn's heartbeat and the null device are no disks.
IN_MEMORY = ("/dev/shm/", "/dev/null")
# What it sealed last, to notice a database that was put back; without it the machine only notices less.
MEMORANDUM = heads.FILE


def test_nothing_is_written_to_a_disk_when_machines_work(fleet: Fleet) -> None:
    rig = fleet.rig
    with fleet.crowd(rate=30):
        until(lambda: len(rig.ledger.accepted) >= PEOPLE and rig.ledger.confirmed, "sign-ups and confirmations")
    rig.settle(jumps=False)
    for machine in fleet.machines:
        assert {path.name for path in machine.files()} <= {MEMORANDUM}
        paths = {path for path in machine.written() if not path.startswith(IN_MEMORY) and MEMORANDUM not in path}
        # The folder itself is made, as docs/operations.md says; the clock is the test's own.
        assert paths == {machine.environ["SIGNUP_INSTANCE"], str(rig.clock.path)}


def test_the_watch_speaks_when_a_program_writes(fleet: Fleet) -> None:
    (machine, *_) = fleet.machines
    scratch = machine.folder.parent / "scratch"
    told = machine.python(f"open({str(scratch)!r}, 'w').close(); open({str(scratch)!r}).close()")
    assert told.splitlines() == [f"{SIGN}{scratch}"]
