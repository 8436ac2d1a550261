#!/bin/sh
# Makes the broker ready: the users with their passwords, then exchanges, queues, policies and rights. Safe to repeat:
# a changed password is set, what is there stays.
#
# Takes RABBITMQ_API (http://HOST:15672), RABBITMQ_ADMIN_PASSWORD, and a password for each role.
set -eu

api=$RABBITMQ_API/api
# In a file, so that no password is seen in the list of processes.
umask 077
login=$(mktemp)
trap 'rm -f "$login"' EXIT
printf 'user = "longshore-admin:%s"\n' "$RABBITMQ_ADMIN_PASSWORD" >"$login"

# The node answers pings a little before its management interface listens.
tries=60
until curl -fsS -o /dev/null -K "$login" "$api/overview" 2>/dev/null; do
    tries=$((tries - 1))
    if test "$tries" = 0; then
        echo "the management interface at $RABBITMQ_API does not let longshore-admin in" >&2
        exit 1
    fi
    sleep 1
done

user() {
    printf '{"password": "%s", "tags": "%s"}' "$2" "$3" |
        curl -fsS -o /dev/null -K "$login" -X PUT -H 'Content-Type: application/json' --data-binary @- "$api/users/$1"
    echo "user $1: password set"
}

# Before `broker apply`: it gives rights to those users that exist.
user longshore-web "$RABBITMQ_WEB_PASSWORD" ''
user longshore-executor "$RABBITMQ_EXECUTOR_PASSWORD" ''
user longshore-tap "$RABBITMQ_TAP_PASSWORD" ''
user longshore-operator "$RABBITMQ_OPERATOR_PASSWORD" 'monitoring'

scheme=${RABBITMQ_API%%://*}
host=${RABBITMQ_API#*://}
export LONGSHORE_BROKER_MANAGEMENT_URL="$scheme://longshore-admin:$RABBITMQ_ADMIN_PASSWORD@$host"
longshore broker apply
