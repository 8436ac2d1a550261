#!/bin/sh
# Keeps a private PostgreSQL server in DIR until standard input ends; then stops it and removes DIR.
#
#   sh tests/services/postgres.sh DIR [OPTION...]     options for the server, such as `-c fsync=on`
#
# The socket in DIR trusts everybody who can reach it; TCP on 127.0.0.1 asks `longshore` for the password
# `longshore`. `DIR/ready` holds the address once the server answers.
set -eu

dir=$1
shift
bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -x "$bin/initdb" ] || { echo "PostgreSQL is not installed: install the package \`postgresql\`"; exit 1; }

cd "$dir"
as=
if [ "$(id -u)" = 0 ]; then
    # PostgreSQL refuses to run as root.
    chown nobody "$dir"
    as="setpriv --reuid nobody --clear-groups --"
fi
echo longshore > "$dir/password"
chmod 644 "$dir/password"

end() {
    $as "$bin/pg_ctl" -D "$dir/data" -m immediate stop > /dev/null 2>&1 || true
    rm -rf "$dir"
}
trap end EXIT

$as "$bin/initdb" -D "$dir/data" -U longshore --pwfile="$dir/password" --auth-local=trust \
    --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --no-sync > /dev/null

tries=0
while :; do
    # Below the ports that outgoing connections take.
    port=$((20000 + $(od -An -N2 -tu2 /dev/urandom) % 12000))
    $as "$bin/pg_ctl" -D "$dir/data" -l "$dir/data/server.log" -w -t 60 -o "-k $dir -p $port \
        -c listen_addresses=127.0.0.1 -c max_connections=300 -c fsync=off -c full_page_writes=off $*" \
        start > /dev/null && break
    tries=$((tries + 1))
    [ "$tries" -lt 10 ] || { cat "$dir/data/server.log"; exit 1; }
done

echo "postgres://longshore:longshore@127.0.0.1:$port/postgres" > "$dir/ready.new"
mv "$dir/ready.new" "$dir/ready"
cat > /dev/null
