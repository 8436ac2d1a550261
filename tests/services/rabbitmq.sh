#!/bin/sh
# A private RabbitMQ node in DIR. It is ready when the file DIR/ready is there, and ends, leaving nothing
# behind, when the standard input does.
#
# DIR/ready has lines of NAME=VALUE: `amqp` and `management`, the addresses with the administrator's name
# and password, without a virtual host; and what `rabbitmqctl` needs in its environment.
# `rabbitmq-restart.sh DIR` stops the node and starts it again.
set -eu

dir=$1
here=$(dirname "$0")
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

# In a file, for whoever starts the node again.
cat > "$dir/environment" <<ENVIRONMENT
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
programs=$programs
management_port=$management_port
auth=longshore-admin:longshore-admin
ENVIRONMENT
. "$dir/environment"
mkdir -p "$HOME" "$RABBITMQ_MNESIA_BASE" "$RABBITMQ_LOG_BASE" "$RABBITMQ_GENERATED_CONFIG_DIR"

echo '[rabbitmq_management].' > "$RABBITMQ_ENABLED_PLUGINS_FILE"
# What we ship, so that a key that a node does not know is noticed here; except for what a test machine may not
# have, and for the log.
sed -e '/^disk_free_limit/d' -e '/^log\./d' "$here/../../broker-config/rabbitmq.conf" > "$RABBITMQ_CONFIG_FILE"
cat >> "$RABBITMQ_CONFIG_FILE" <<CONF
listeners.tcp.default = 127.0.0.1:$amqp_port
management.tcp.ip = 127.0.0.1
management.tcp.port = $management_port
default_vhost = /
default_user = longshore-admin
default_pass = longshore-admin
disk_free_limit.absolute = 50MB
log.file.level = warning
CONF

"$programs/rabbitmq-server" > "$dir/server.log" 2>&1 &
echo $! > "$dir/pid"

stop() {
    trap - EXIT INT TERM
    # Its data goes with it: nothing has to be saved. Whoever started it again has written down its new number.
    sh "$here/rabbitmq-restart.sh" "$dir" stop
    # It refuses to end before it has noticed that the node is gone.
    until epmd -port "$epmd_port" -kill > /dev/null 2>&1; do
        epmd -port "$epmd_port" -names > /dev/null 2>&1 || break
        sleep 0.05
    done
    rm -rf "$dir"
}
trap stop EXIT INT TERM

sh "$here/rabbitmq-restart.sh" "$dir" wait

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
