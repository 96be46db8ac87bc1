"""The ledger migrates, refuses what it cannot read, and agrees with its own schema."""

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from vivace.errors import StoreError
from vivace.store.ledger import HEAD, Ledger, metadata


def test_a_new_ledger_has_exactly_the_tables_of_the_schema(tmp_path: Path) -> None:
    Ledger.at(tmp_path / "ledger.db").close()
    inspector = sa.inspect(sa.create_engine(f"sqlite:///{tmp_path / 'ledger.db'}"))
    for table in metadata.sorted_tables:
        assert {column["name"] for column in inspector.get_columns(table.name)} == {c.name for c in table.columns}
    assert set(inspector.get_table_names()) == {"alembic_version", *metadata.tables}


def test_the_newest_migration_is_the_one_the_code_expects() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "vivace.store:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_a_ledger_of_a_newer_vivace_is_refused_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    Ledger.at(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="newer Vivace"):
        Ledger.at(path)


def test_a_file_that_is_no_database_is_refused_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is not a database, " * 100)
    with pytest.raises(StoreError, match="Move it away"):
        Ledger.at(path)


def test_the_journal_is_not_the_write_ahead_log(tmp_path: Path) -> None:
    Ledger.at(tmp_path / "ledger.db").close()
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
