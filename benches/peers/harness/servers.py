"""Private servers, stopped and removed at the end: PostgreSQL and RabbitMQ as the tests start them, and Redis."""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

SERVICES = Path(__file__).resolve().parents[3] / "tests" / "services"

# Not /tmp, which may be in memory: what is synced shall go to a disk.
FOLDER = "/var/tmp"

START_PATIENCE_S = 120


class ServerFailed(Exception):
    """A server did not start, or refused what it was asked."""


def _folder(name):
    return Path(tempfile.mkdtemp(prefix=f"longshore-{name}-", dir=FOLDER))


def _until(ready, process, log):
    """Waits until the file `ready` is there; its text."""
    deadline = time.monotonic() + START_PATIENCE_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServerFailed(f"a server did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)
    return ready.read_text()


@contextlib.contextmanager
def _script(name, *options):
    """A server that a script of the tests keeps until its standard input ends."""
    folder = _folder(name)
    log = folder.with_suffix(".log")
    with log.open("w") as output:
        process = subprocess.Popen(
            ["sh", SERVICES / f"{name}.sh", folder, *options],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield folder, _until(folder / "ready", process, log)
    finally:
        process.stdin.close()
        process.wait()
        log.unlink()


class Postgres:
    def __init__(self, folder, url):
        self.folder, self.url = folder, url
        self.programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version)[-1]
        self.port = re.search(r":(\d+)/", url)[1]

    def roots(self):
        return [int((self.folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])]

    def tell(self, sql):
        psql = [self.programs / "psql", "-qX", "-h", self.folder, "-p", self.port, "-U", "longshore"]
        done = subprocess.run([*psql, "-d", "postgres", "-c", sql], capture_output=True, text=True)
        if done.returncode:
            raise ServerFailed(done.stderr)

    @contextlib.contextmanager
    def database(self, name):
        """A new database, and everything before it on the disk."""
        self.tell(f"create database {name}")
        self.tell("checkpoint")
        try:
            yield self.url.removesuffix("postgres") + name
        finally:
            self.tell(f"drop database {name} with (force)")


def _version(path):
    return [int(number) for number in re.findall(r"\d+", str(path))]


@contextlib.contextmanager
def postgres():
    # The tests do without the disk; here it counts. The later option wins.
    with _script("postgres", "-c", "fsync=on", "-c", "full_page_writes=on") as (folder, url):
        yield Postgres(folder, url.strip())


class Rabbitmq:
    def __init__(self, folder, ready):
        values = dict(line.split("=", 1) for line in ready.splitlines())
        self.folder, self.amqp = folder, values["amqp"]
        self.management = values["management"]

    def roots(self):
        return [int((self.folder / "pid").read_text())]

    def tell(self, method, path, body=None):
        login, host = self.management.removeprefix("http://").split("@")
        request = urllib.request.Request(f"http://{host}/api/{path}", method=method)
        request.add_header("Authorization", "Basic " + base64.b64encode(login.encode()).decode())
        request.add_header("Content-Type", "application/json")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        opener.open(request, json.dumps(body or {}).encode(), timeout=60).close()

    @contextlib.contextmanager
    def vhost(self, name):
        """A new virtual host with nothing in it."""
        self.tell("PUT", f"vhosts/{name}")
        user = self.management.removeprefix("http://").split(":")[0]
        self.tell("PUT", f"permissions/{name}/{user}", {"configure": ".*", "write": ".*", "read": ".*"})
        try:
            yield f"{self.amqp}/{name}"
        finally:
            self.tell("DELETE", f"vhosts/{name}")


@contextlib.contextmanager
def rabbitmq():
    with _script("rabbitmq") as (folder, ready):
        yield Rabbitmq(folder, ready)


class Redis:
    def __init__(self, process, url):
        self.process, self.url = process, url

    def roots(self):
        return [self.process.pid]


@contextlib.contextmanager
def redis(appendfsync):
    """A new Redis that writes its log of commands, synced as `appendfsync` says; no snapshots beside it."""
    folder = _folder("redis")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    options += ["--appendonly", "yes", "--appendfsync", appendfsync]
    process = start(["redis-server", *options], {}, folder / "log")
    try:
        deadline = time.monotonic() + START_PATIENCE_S
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"Redis did not start:\n{(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)
        yield Redis(process, f"redis://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def start(command, environment, log, folder=None, output=None):
    """Starts `command` in a session of its own; it does not outlive this process. `output` is a file, as `log` is."""
    with open(log, "ab") as log, open(output or os.devnull, "ab") as data:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *command],
            env={**os.environ, **environment},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=data if output else log,
            stderr=log,
            start_new_session=True,
        )


def end(process, pids):
    """Kills `process` and those that belong to it: all is stored, and nobody waits for a farewell."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.kill()
    process.wait()
