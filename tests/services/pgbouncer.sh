#!/bin/sh
# Keeps a private PgBouncer in DIR, before the PostgreSQL server at ADDRESS, until standard input ends; then stops it
# and removes DIR. It lends a server for one transaction.
#
#   sh tests/services/pgbouncer.sh DIR PROGRAM ADDRESS     ADDRESS as in `ready` of postgres.sh
#
# `DIR/ready` holds the address once it answers. PROGRAM is version 1.21 or newer: older ones do not keep prepared
# statements.
set -eu

dir=$1 program=$2
server=${3#*@}
port=${server#*:} port=${port%%/*}

chmod 755 "$dir"
if [ "$(id -u)" = 0 ]; then
    # PgBouncer refuses to run as root.
    chown nobody "$dir"
    program="setpriv --reuid nobody --clear-groups -- $program"
fi

# What our connections would set for themselves. As docs/running.md has it for a role.
settings="set plan_cache_mode = force_custom_plan; set jit = off; set client_min_messages = warning;"
settings="$settings set statement_timeout = 20000; set idle_in_transaction_session_timeout = 20000"

bouncer=
end() {
    [ -z "$bouncer" ] || kill "$bouncer" 2> /dev/null || true
    rm -rf "$dir"
}
trap end EXIT

tries=0
while :; do
    # Below the ports that outgoing connections take.
    own=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 12000))
    cat > "$dir/pgbouncer.ini" <<INI
[databases]
* = host=127.0.0.1 port=$port user=longshore password=longshore connect_query='$settings'
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $own
unix_socket_dir =
auth_type = any
pool_mode = transaction
max_prepared_statements = 200
ignore_startup_parameters = extra_float_digits,options
default_pool_size = 20
max_client_conn = 1000
server_idle_timeout = 30
INI
    $program "$dir/pgbouncer.ini" > "$dir/log" 2>&1 &
    bouncer=$!
    # It says so, or ends.
    while kill -0 "$bouncer" 2> /dev/null && ! grep -q 'process up' "$dir/log"; do
        sleep 0.05
    done
    kill -0 "$bouncer" 2> /dev/null && break
    tries=$((tries + 1))
    [ "$tries" -lt 10 ] || { cat "$dir/log"; exit 1; }
done

echo "postgres://longshore:longshore@127.0.0.1:$own/postgres" > "$dir/ready.new"
mv "$dir/ready.new" "$dir/ready"
cat > /dev/null
