#!/bin/sh
# Logs in with psql again and again until the file $STOP exists; prints the number of logins.
logins=0
while [ ! -e "$STOP" ]; do
    [ "$(psql -wAtc 'select 1')" = 1 ] || exit 1
    logins=$((logins + 1))
done
echo "$logins"
