#!/bin/sh
# Stops a private PostgreSQL server as if it had crashed, or starts it again on the same port.
#
#   sh tests/services/postgres-restart.sh DIR stop|start
set -eu

bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
data=$1/data
cd "$data"
as=
[ "$(id -u)" != 0 ] || as="setpriv --reuid nobody --clear-groups --"
case $2 in
stop) exec $as "$bin/pg_ctl" -D "$data" -m immediate -w stop > /dev/null ;;
start)
    # The options of the first start: the server wrote them down, quoted for the shell.
    options=$(sed 's/^[^ ]* //' "$data/postmaster.opts")
    exec $as "$bin/pg_ctl" -D "$data" -l "$data/server.log" -w -o "$options" start > /dev/null
    ;;
esac
