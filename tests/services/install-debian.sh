#!/bin/sh
# Installs what the tests need and the machine lacks: the Debian packages `postgresql` and `rabbitmq-server`.
# The tests start private servers of their own; those that Debian may start with the packages are not used.
set -eu

missing=
for package in postgresql rabbitmq-server; do
    case $package in
        postgresql) set -- /usr/lib/postgresql/*/bin/initdb ;;
        rabbitmq-server) set -- /usr/lib/rabbitmq/bin/rabbitmq-server ;;
    esac
    test -x "$1" || missing="$missing $package"
done
test -n "$missing" || exit 0

if ! command -v apt-get >/dev/null; then
    echo "the tests need PostgreSQL and RabbitMQ; install here what is missing, for example:$missing" >&2
    exit 1
fi
if test "$(id -u)" = 0; then
    root=
elif sudo -n true 2>/dev/null; then
    root='sudo -n'
else
    echo "the tests need these packages; as root, type: apt-get install -y$missing" >&2
    exit 1
fi

echo "installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

install() {
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing \
        </dev/null >"$log" 2>&1
}

# The list of packages may be there and fresh enough; only if not it is fetched.
if ! install; then
    $root apt-get update </dev/null >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
    install || { cat "$log" >&2; exit 1; }
fi
