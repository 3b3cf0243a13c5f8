#!/bin/sh
# Starts a coding agent in a container that gets a password which only reads two tables, and nothing
# else of yours: read-only-container.sh IMAGE [ARGUMENT…]. The image needs certificates to trust.
exec lakebase-token exec --clean --read-only main.sales.orders,main.sales.items --ttl 15m -- \
    docker run --rm --interactive --tty \
    --env PGHOST --env PGPORT --env PGDATABASE --env PGUSER --env PGPASSWORD \
    --env PGSSLMODE=verify-full --env PGSSLROOTCERT=/etc/ssl/certs/ca-certificates.crt "$@"
