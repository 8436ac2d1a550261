"""The same measurements of ours: `longshore bench` counts what the harness counts for the others."""

import json
import os
import time

from . import servers, usage
from .measure import PATIENCE_S, Failed

SLOTS = "1000"

# What it says when the backlog is there and the executor starts.
DRAINING = "draining"

# How often that is looked for, and how often what its processes used is read.
LOOK_S = 0.02
SAMPLE_S = 0.25


def drain(site, tasks):
    result, used = _bench(site, "drain", tasks)
    return {
        "tasks": tasks,
        "seconds": result["seconds"],
        "tasks_per_s": result["tasks_per_s"],
        "submitted_per_s": result["submitted_per_s"],
        "worker_cpu_s_per_10k": result["executor_cpu_s_per_10k"],
        **used,
        "worker_mib": result["executor_rss_mib"],
    }


def latency(site, tasks):
    result, _ = _bench(site, "latency", tasks)
    return {
        "tasks": tasks,
        "p50_ms": result["wait_p50_ms"],
        "p95_ms": result["wait_p95_ms"],
        "p99_ms": result["wait_p99_ms"],
    }


def _bench(site, scenario, tasks):
    """What a scenario of `longshore bench` says, and what its servers used from the executor's start to the end."""
    site.call(["{longshore}", "db", "migrate"])
    site.call(["{longshore}", "broker", "apply"])
    command = ["{longshore}", "bench", scenario, "--tasks", str(tasks), "--slots", SLOTS, "-o", "json"]
    output = site.memory / "output"
    process = servers.start(site.command(command), site.environment, site.log, site.folder, output)
    try:
        used = _watch(site, process, tasks)
        if process.wait():
            raise Failed(f"longshore bench {scenario}: {site.log.read_text()[-2000:]}")
        return json.loads(output.read_text()), used
    finally:
        servers.end(process, usage.session(process.pid))


def _watch(site, process, tasks):
    """Waits for the end of `process`, without burying it: it would take what it used along."""
    meter, own_s, own_before_s = None, 0.0, 0.0
    sampled = give_up = time.monotonic()
    give_up += 10 * PATIENCE_S
    while not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if meter is None and DRAINING in site.log.read_text():
            meter = usage.Meter(site.roots)
            own_before_s = usage.cpu_s(usage.session(process.pid))
        now = time.monotonic()
        if now > give_up:
            raise Failed("longshore bench does not end")
        if now - sampled > SAMPLE_S:
            sampled, own_s = now, max(own_s, usage.cpu_s(usage.session(process.pid)))
        time.sleep(LOOK_S)
    return meter.read(own_s - own_before_s, tasks) if meter else {}
