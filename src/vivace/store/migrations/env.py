"""How alembic reaches the ledger: through the connection `Ledger` hands over."""

from alembic import context

from vivace.store.ledger import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
