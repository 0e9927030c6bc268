"""Run by alembic: migrate over the connection it was given, inside that connection's transaction."""

from alembic import context

from store.read_tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite can, since BEGIN is ours: a step that fails leaves nothing behind
)
context.run_migrations()
