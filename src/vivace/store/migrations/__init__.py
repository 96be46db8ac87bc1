"""Schema changes of the ledger, run by alembic."""
