#!/bin/sh
# Stops a private RabbitMQ node as a power cut would, or starts it again on the same ports.
#
#   sh tests/services/rabbitmq-restart.sh DIR stop     it is gone when this returns; its data stays
#   sh tests/services/rabbitmq-restart.sh DIR wipe     deletes the data of a stopped node
#   sh tests/services/rabbitmq-restart.sh DIR start    it takes connections when this returns
#   sh tests/services/rabbitmq-restart.sh DIR wait     waits until a node that is starting takes connections
set -eu

dir=$1
. "$dir/environment"
server=$(cat "$dir/pid")

# A dead process that nobody has buried yet is gone, too.
is_running() {
    state=$(sed 's/.*) //; s/ .*//' "/proc/$server/stat" 2> /dev/null) && [ "$state" != Z ]
}

# Answers once the node, its listeners and the management plugin are up.
answers() {
    perl -MIO::Socket::INET -MMIME::Base64 -e '
        my ($port, $auth) = @ARGV;
        my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Timeout => 2) or exit 1;
        print $socket "GET /api/health/checks/virtual-hosts HTTP/1.0\r\nAuthorization: Basic ",
            encode_base64($auth, ""), "\r\n\r\n";
        my $line = <$socket> // "";
        exit($line =~ / 200 / ? 0 : 1)' "$management_port" "$auth"
}

until_it_answers() {
    until answers; do
        if ! is_running; then
            cat "$dir/server.log" >&2
            exit 1
        fi
        sleep 0.1
    done
}

case $2 in
stop)
    kill -KILL "$server" 2> /dev/null || true
    while is_running; do sleep 0.05; done
    ;;
wipe) rm -rf "$RABBITMQ_MNESIA_BASE" ;;
start)
    mkdir -p "$RABBITMQ_MNESIA_BASE"
    "$programs/rabbitmq-server" < /dev/null >> "$dir/server.log" 2>&1 &
    server=$!
    echo "$server" > "$dir/pid"
    until_it_answers
    ;;
wait) until_it_answers ;;
esac
