#!/bin/sh
# A private RabbitMQ node in DIR. It is ready when the file DIR/ready is there, and ends, leaving nothing
# behind, when the standard input does.
#
# DIR/ready has lines of NAME=VALUE: `amqp` and `management`, the addresses with the administrator's name
# and password, without a virtual host; and what `rabbitmqctl` needs in its environment.
set -eu

dir=$1
base=/usr/lib/rabbitmq
programs=
for candidate in "$base"/bin "$base"/lib/rabbitmq_server-*/sbin; do
    # Not the wrapper on the PATH: it switches to the user `rabbitmq` and to the machine's own node.
    if [ -x "$candidate/rabbitmq-server" ]; then programs=$candidate; break; fi
done
if [ -z "$programs" ]; then
    echo "rabbitmq-server is not installed" >&2
    exit 1
fi

# Ports that nobody listens on. Another process may take one before the node does: then the node does not
# start, and the log says so.
free_ports() {
    perl -MIO::Socket::INET -e '
        my @sockets = map { IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die $! } 1 .. shift;
        print join(" ", map { $_->sockport } @sockets), "\n"' "$1"
}
set -- $(free_ports 4)
amqp_port=$1 management_port=$2 dist_port=$3 epmd_port=$4

export HOME="$dir/home"
export RABBITMQ_MNESIA_BASE="$dir/data"
export RABBITMQ_LOG_BASE="$dir/log"
export RABBITMQ_ENABLED_PLUGINS_FILE="$dir/enabled_plugins"
export RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf"
export RABBITMQ_CONF_ENV_FILE="$dir/none.conf"
export RABBITMQ_GENERATED_CONFIG_DIR="$dir/generated"
export RABBITMQ_NODENAME="longshore-$amqp_port@localhost"
export RABBITMQ_DIST_PORT="$dist_port"
export ERL_EPMD_PORT="$epmd_port"
# The node itself instead of a wrapper that would have to be asked to stop it.
export RUNNING_UNDER_SYSTEMD=true
# Its schedulers shall sleep when there is nothing to do: the tests run beside it, on few cores.
export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+sbwt none +sbwtdcpu none +sbwtdio none"
mkdir -p "$HOME" "$RABBITMQ_MNESIA_BASE" "$RABBITMQ_LOG_BASE" "$RABBITMQ_GENERATED_CONFIG_DIR"

echo '[rabbitmq_management].' > "$RABBITMQ_ENABLED_PLUGINS_FILE"
cat > "$RABBITMQ_CONFIG_FILE" <<CONF
listeners.tcp.default = 127.0.0.1:$amqp_port
management.tcp.ip = 127.0.0.1
management.tcp.port = $management_port
default_vhost = /
default_user = longshore-admin
default_pass = longshore-admin
heartbeat = 10
max_message_size = 16777216
# A test machine may have little left; the tests of alarms set them by hand.
disk_free_limit.absolute = 50MB
log.file.level = warning
CONF

"$programs/rabbitmq-server" > "$dir/server.log" 2>&1 &
server=$!

stop() {
    trap - EXIT INT TERM
    # Its data goes with it: nothing has to be saved.
    kill -KILL "$server" 2> /dev/null || true
    wait "$server" 2> /dev/null || true
    epmd -port "$epmd_port" -kill > /dev/null 2>&1 || true
    rm -rf "$dir"
}
trap stop EXIT INT TERM

auth=longshore-admin:longshore-admin
# Answers once the node, its listeners and the management plugin are up.
until perl -MIO::Socket::INET -MMIME::Base64 -e '
    my ($port, $auth) = @ARGV;
    my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Timeout => 2) or exit 1;
    print $socket "GET /api/health/checks/virtual-hosts HTTP/1.0\r\nAuthorization: Basic ",
        encode_base64($auth, ""), "\r\n\r\n";
    my $line = <$socket> // "";
    exit($line =~ / 200 / ? 0 : 1)' "$management_port" "$auth"
do
    if ! kill -0 "$server" 2> /dev/null; then
        cat "$dir/server.log" >&2
        exit 1
    fi
    sleep 0.1
done

cat > "$dir/ready.new" <<READY
amqp=amqp://$auth@127.0.0.1:$amqp_port
management=http://$auth@127.0.0.1:$management_port
programs=$programs
HOME=$HOME
RABBITMQ_NODENAME=$RABBITMQ_NODENAME
RABBITMQ_CONF_ENV_FILE=$RABBITMQ_CONF_ENV_FILE
ERL_EPMD_PORT=$epmd_port
READY
mv "$dir/ready.new" "$dir/ready"

# Until the pipe ends, however the test process ends.
cat > /dev/null
