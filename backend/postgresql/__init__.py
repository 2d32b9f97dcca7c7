"""The database engine of this project where DATABASE_URL names PostgreSQL."""
