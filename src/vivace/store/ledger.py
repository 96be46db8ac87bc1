"""The ledger: which stage run made which artifact, in SQLite, with one writer."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from vivace.errors import StoreError

HEAD = "0001"

metadata = sa.MetaData()

artifacts = sa.Table(
    "artifact",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
)

runs = sa.Table(
    "run",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("stage", sa.String(64), nullable=False, index=True),
    sa.Column("artifact_id", sa.String(64), sa.ForeignKey("artifact.id"), nullable=False, index=True),
    sa.Column("parents", sa.Text, nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("facts", sa.Text, nullable=False),
    sa.Column("code_version", sa.String(32), nullable=False),
    sa.Column("environment", sa.Text, nullable=False),
    sa.Column("created_at", sa.String(32), nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
)


class Ledger:
    """Rows about stage runs; the folders on disk are the truth, the ledger finds them."""

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url)
        sa.event.listen(self._engine, "connect", _prepare_sqlite)
        try:
            self._migrate()
        except sa.exc.DatabaseError as error:
            raise StoreError(
                f"The ledger {self._engine.url.database} cannot be used: {error.orig or error}.",
                "Move it away: it is rebuilt from the artifacts on disk.",
            ) from error

    @classmethod
    def at(cls, path: Path) -> "Ledger":
        """Open the SQLite ledger at `path`, creating it or bringing it to this version's schema."""
        return cls(f"sqlite:///{path}")

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def record(self, run: dict[str, Any], artifact: dict[str, Any]) -> None:
        """Write a run and its artifact in one transaction; a run with the same key is replaced."""
        row = {
            name: json.dumps(value, sort_keys=True) if isinstance(value, (dict, list)) else value
            for name, value in run.items()
        }
        with self._engine.begin() as connection:
            known = connection.execute(sa.select(artifacts.c.id).where(artifacts.c.id == artifact["id"])).first()
            if known is None:
                connection.execute(artifacts.insert().values(**artifact))
            connection.execute(runs.delete().where(runs.c.key == run["key"]))
            connection.execute(runs.insert().values(**row))

    def find(self, key: str) -> dict[str, Any] | None:
        """Return the run with this key, or None."""
        rows = self._rows(_joined().where(runs.c.key == key))
        return rows[0] if rows else None

    def runs(self, stage: str | None = None) -> list[dict[str, Any]]:
        """Return the runs, newest first, of one stage or of all."""
        query = _joined().order_by(runs.c.created_at.desc(), runs.c.key)
        return self._rows(query if stage is None else query.where(runs.c.stage == stage))

    def forget(self, key: str) -> None:
        """Remove a run whose artifact is gone."""
        with self._engine.begin() as connection:
            connection.execute(runs.delete().where(runs.c.key == key))

    def is_empty(self) -> bool:
        """Return whether no run was ever recorded."""
        with self._engine.connect() as connection:
            return connection.execute(sa.select(runs.c.key).limit(1)).first() is None

    def _rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        with self._engine.connect() as connection:
            found: Sequence[sa.RowMapping] = connection.execute(query).mappings().all()
        names = ("parents", "settings", "facts", "environment")
        return [dict(row) | {name: json.loads(row[name]) for name in names} for row in found]

    def _migrate(self) -> None:
        with self._engine.connect() as connection:
            if sa.inspect(connection).has_table("alembic_version"):
                version = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
                if version == HEAD:
                    return
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        config = Config()
        config.set_main_option("script_location", "vivace.store:migrations")
        try:
            with self._engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as error:
            raise StoreError(
                f"The ledger {self._engine.url.database} was written by a newer Vivace.", "Update Vivace."
            ) from error


def _joined() -> sa.Select[Any]:
    return sa.select(runs, artifacts.c.kind, artifacts.c.size_bytes).join(artifacts)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    """Choose the rollback journal: SQLite 3.40's write-ahead log can lose a reset with two connections."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=DELETE")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=10000")
    cursor.close()
