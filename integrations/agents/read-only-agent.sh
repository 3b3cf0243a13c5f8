#!/bin/sh
# Starts a coding agent as the user `agent`, who gets a password that only reads two tables, and
# nothing else of yours: read-only-agent.sh PROGRAM [ARGUMENT…]
exec lakebase-token exec --clean --read-only main.sales.orders,main.sales.items --ttl 15m -- \
    sudo --user=agent --set-home \
    --preserve-env=PGHOST,PGPORT,PGDATABASE,PGUSER,PGPASSWORD,PGSSLMODE,PGSSLROOTCERT "$@"
