"""One measurement of one system: servers of its own, nothing in them, nothing left behind."""

import contextlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from . import servers, usage

# What each task carries, about 250 bytes; `longshore bench` has the same.
PAYLOAD = json.dumps({"text": "all hands on deck, the ship is in. " * 6, "number": 7})

# How often the finished tasks are counted, how long none may finish, and how long a client may take.
LOOK_S = 0.002
PATIENCE_S = 30
CLIENT_PATIENCE_S = 300

# Where the tally is kept: in memory, so that counting costs no disk.
MEMORY = "/dev/shm"


class Failed(Exception):
    """A measurement that came to nothing, with the reason."""


class Bench:
    """What lives as long as the whole run: programs, PostgreSQL, RabbitMQ."""

    def __init__(self, folders, programs, postgres, rabbitmq):
        self.folders, self.programs = folders, programs
        self.postgres, self.rabbitmq = postgres, rabbitmq
        self.runs = 0

    @contextlib.contextmanager
    def site(self, system):
        """A place where `system` can run: empty servers, a tally, a log."""
        self.runs += 1
        name = f"run_{self.runs}"
        with contextlib.ExitStack() as stack:
            memory = stack.enter_context(tempfile.TemporaryDirectory(prefix="longshore-peers-", dir=MEMORY))
            environment = {"PAYLOAD": PAYLOAD, "TALLY": f"{memory}/tally", **system.environment}
            roots = []
            for server in system.servers:
                if server == "postgres":
                    environment["DATABASE_URL"] = stack.enter_context(self.postgres.database(name))
                    roots += self.postgres.roots()
                elif server == "rabbitmq":
                    environment["AMQP_URL"] = stack.enter_context(self.rabbitmq.vhost(name))
                    environment["LONGSHORE_BROKER_MANAGEMENT_URL"] = self.rabbitmq.management
                    roots += self.rabbitmq.roots()
                else:
                    redis = stack.enter_context(servers.redis(server.removeprefix("redis-")))
                    environment["REDIS_URL"] = redis.url
                    roots += redis.roots()
            yield Site(system, self.folders[system.folder], self.programs, environment, roots, Path(memory))


class Site:
    def __init__(self, system, folder, programs, environment, roots, memory):
        self.system, self.folder, self.programs = system, folder, programs
        self.environment, self.roots, self.memory = environment, roots, memory
        self.tally, self.log = memory / "tally", memory / "log"

    def command(self, words, *more):
        python = self.programs.get(f"python-{self.system.folder}", "python3")
        return [str(word).format(python=python, **self.programs) for word in words] + list(more)

    def call(self, words, *more):
        """Runs a program to its end; what it printed."""
        command = self.command(words, *more)
        process = subprocess.Popen(
            command,
            env={**os.environ, **self.environment},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            output, errors = process.communicate(timeout=CLIENT_PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"`{' '.join(command)}` took longer than {CLIENT_PATIENCE_S} s") from None
        finally:
            servers.end(process, usage.session(process.pid))
        if process.returncode:
            raise Failed(f"`{' '.join(command)}` says: {errors.strip()[-2000:]}")
        return output

    def measured(self, words, *more):
        """The same for a program that prints JSON in its last line."""
        return json.loads(self.call(words, *more).strip().splitlines()[-1])

    @contextlib.contextmanager
    def worker(self):
        process = servers.start(self.command(self.system.worker_command), self.environment, self.log, self.folder)
        try:
            yield process
        finally:
            servers.end(process, usage.session(process.pid))

    def finished(self):
        try:
            return self.tally.stat().st_size
        except FileNotFoundError:
            return 0

    def until(self, count, worker):
        """Waits until `count` tasks have run; how many have."""
        before, since = -1, time.monotonic()
        while (done := self.finished()) < count:
            if done > before:
                before, since = done, time.monotonic()
            elif worker.poll() is not None or time.monotonic() - since > PATIENCE_S:
                raise Failed(f"{done} of {count} tasks ran, then no more:\n{self.log.read_text()[-2000:]}")
            time.sleep(LOOK_S)
        return done


def prepare(site):
    if site.system.prepare_command:
        site.call(site.system.prepare_command)


def drain(site, tasks):
    """A backlog, then a worker that works it off: from the first task that has run to the last."""
    prepare(site)
    submitted = site.measured(site.system.client_command, "submit", str(tasks))
    meter = usage.Meter(site.roots)
    with site.worker() as worker:
        site.until(1, worker)
        begun, worker_before_s = time.monotonic(), usage.cpu_s(usage.session(worker.pid))
        site.until(tasks, worker)
        seconds = time.monotonic() - begun
        pids = usage.session(worker.pid)
        worker_s = usage.cpu_s(pids)
        used = meter.read(worker_s, tasks)
        memory_mib = usage.memory_mib(pids)
    return {
        "tasks": tasks,
        "seconds": round(seconds, 3),
        "tasks_per_s": round(tasks / seconds, 1),
        "submitted_per_s": round(tasks / submitted["seconds"], 1),
        "worker_cpu_s_per_10k": round((worker_s - worker_before_s) * 10_000 / tasks, 3),
        **used,
        "worker_mib": round(memory_mib, 1),
    }


def latency(site, tasks):
    """One task after the other at rest: from submitting it to having its result."""
    prepare(site)
    with site.worker():
        waits_ms = site.measured(site.system.client_command, "latency", str(tasks))["waits_ms"]
    at = statistics.quantiles(waits_ms, n=100, method="inclusive")
    return {
        "tasks": len(waits_ms),
        "p50_ms": round(at[49], 2),
        "p95_ms": round(at[94], 2),
        "p99_ms": round(at[98], 2),
    }
