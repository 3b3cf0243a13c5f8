#!/bin/sh
# Logs in by psql, over and over, until $STOP is there; says how often.
n=0
while [ ! -e "$STOP" ]; do
    [ "$(psql -wAtc 'select 1')" = 1 ] || exit 1
    n=$((n + 1))
done
echo "$n"
