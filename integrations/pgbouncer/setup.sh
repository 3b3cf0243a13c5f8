#!/bin/sh
# A PgBouncer of your own, for programs that cannot ask for a password. It listens on a socket that
# only you can open, without a password, and on 127.0.0.1:6543 for the user `local`, whose random
# password opens nothing else and never expires. A service keeps its password for Lakebase current.
# Run it again after a change of settings.
set -eu
umask 077
PATH=$PATH:/usr/sbin
folder=$HOME/.config/lakebase-pgbouncer
mkdir -p "$folder/socket"
chmod 700 "$folder" "$folder/socket"

# Host, port, database, role and TLS mode, as lakebase-token finds them.
settings=$(lakebase-token -f env)
eval "$settings"
unset PGPASSWORD

# The second line of this file is ours, and stays when lakebase-token writes the first.
users=$folder/userlist.txt
if [ ! -e "$users" ]; then
    password=$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')
    printf '"local" "%s"\n' "$password" >"$users"
fi
lakebase-token write file "$users" --format pgbouncer

cat >"$folder/hba" <<HBA
local all local trust
host  all local 127.0.0.1/32 scram-sha-256
HBA
cat >"$folder/pgbouncer.ini" <<INI
[databases]
$PGDATABASE = host=$PGHOST port=$PGPORT dbname='$PGDATABASE' user='$PGUSER'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 6543
unix_socket_dir = $folder/socket
auth_type = hba
auth_hba_file = $folder/hba
auth_file = $users
pidfile = $folder/pid
logfile = $folder/log
server_tls_sslmode = $PGSSLMODE
${PGSSLROOTCERT:+server_tls_ca_file = $PGSSLROOTCERT}
; Try again one second after a failed login; the default is fifteen.
server_login_retry = 1
; How long a client waits while Lakebase wakes, or refuses logins; the default is two minutes.
query_wait_timeout = 30
; Connections outlive their password, so an hour is not too long.
server_lifetime = 3600
; JDBC and others send it.
ignore_startup_parameters = extra_float_digits
INI

if systemctl --user show-environment >/dev/null 2>&1; then
    units=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
    mkdir -p "$units"
    cat >"$units/lakebase-pgbouncer.service" <<UNIT
[Unit]
Description=PgBouncer for Lakebase
[Service]
ExecStart=$(command -v pgbouncer) -q "$folder/pgbouncer.ini"
ExecReload=kill -HUP \$MAINPID
Restart=on-failure
UMask=0077
[Install]
WantedBy=default.target
UNIT
    systemctl --user daemon-reload
    systemctl --user enable --quiet lakebase-pgbouncer
    systemctl --user restart lakebase-pgbouncer
else
    pgbouncer -q -R -d "$folder/pgbouncer.ini"
fi
lakebase-token service install file "$users" --format pgbouncer \
    --then "! test -e '$folder/pid' || kill -HUP \"\$(cat '$folder/pid')\""

echo "psql:     psql -h $folder/socket -p 6543 -U local $PGDATABASE"
echo "Java:     jdbc:postgresql://127.0.0.1:6543/$PGDATABASE, user local; its password is in $users"
