#!/bin/sh
# Stops a private PostgreSQL server as if it had crashed, or starts it again on the same port.
#
#   sh tests/services/postgres-restart.sh DIR/data stop|start
set -eu

bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
cd "$1"
as=
[ "$(id -u)" != 0 ] || as="setpriv --reuid nobody --clear-groups --"
case $2 in
stop) exec $as "$bin/pg_ctl" -D "$1" -m immediate -w stop > /dev/null ;;
start)
    # The options of the first start: the server wrote them down, quoted for the shell.
    options=$(sed 's/^[^ ]* //' "$1/postmaster.opts")
    exec $as "$bin/pg_ctl" -D "$1" -l "$1/server.log" -w -o "$options" start > /dev/null
    ;;
esac
