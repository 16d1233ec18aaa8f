"""Migrations and people who use the same tables: the migration waits, nobody is thrown out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tests.support.postgres import PostgresServer
from tests.support.servers import ROOT, clean_environment
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

# The next migration changes `confirmation` and then `submission`.
BEFORE = "0003"
WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'submission'::regclass"


def flask(environ: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flask", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_migration_gives_way_when_someone_holds_the_one_table_and_wants_the_other(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    url = postgres_server.create_database().replace("postgresql+psycopg", "postgresql")
    environ = clean_environment(SIGNUP_ENV="development", SIGNUP_INSTANCE=str(tmp_path), DATABASE_URL=url)
    earlier = flask(environ, "db", "upgrade", BEFORE)
    output, _ = earlier.communicate(timeout=120)
    assert earlier.returncode == 0, output

    with psycopg.connect(url) as visitor, psycopg.connect(url, autocommit=True) as watcher:
        visitor.execute("SELECT FROM submission")
        migration = flask(environ, "db", "upgrade")

        def is_waiting() -> bool:
            assert migration.poll() is None, migration.communicate()
            return watcher.execute(WAITING).fetchone() == (1,)

        wait_for(is_waiting, seconds=60, describe="a migration before the locked table")
        visitor.execute("SELECT FROM confirmation")
        visitor.execute("SELECT pg_sleep(1)")
        assert migration.poll() is None
        visitor.commit()
        output, _ = migration.communicate(timeout=120)

    assert migration.returncode == 0, output
    with psycopg.connect(url) as connection:
        newest = sorted((ROOT / "migrations" / "versions").glob("0*.py"))[-1].name[:4]
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(newest,)]
