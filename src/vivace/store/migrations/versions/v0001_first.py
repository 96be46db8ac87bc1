"""Create the tables of artifacts and runs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "artifact",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
    )
    op.create_table(
        "run",
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


def downgrade() -> None:
    """Drop both tables."""
    op.drop_table("run")
    op.drop_table("artifact")
