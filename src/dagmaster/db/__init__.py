"""The control-plane Postgres: connections, migrations, and functions that turn rows into contract objects."""
