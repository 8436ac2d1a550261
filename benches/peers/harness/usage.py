"""What processes used, as Linux tells it in /proc."""

import os
import time
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def _stat(pid):
    """The fields of /proc/PID/stat from the third on; the name before may hold blanks. None: it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None


def _all():
    """(process, fields) of all that run."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(entry)):
            yield int(entry), fields


def trees(roots):
    """`roots` and all below them."""
    parents = {pid: int(fields[1]) for pid, fields in _all()}
    found = set(roots)
    while below := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= below
    return found


def session(leader):
    """All processes of the session that `leader` leads."""
    return {pid for pid, fields in _all() if int(fields[3]) == leader}


def cpu_s(pids):
    """Seconds of CPU of `pids`, and of those of their children that have ended."""
    ticks = 0
    for pid in pids:
        if fields := _stat(pid):
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICKS_PER_SECOND


def memory_mib(pids):
    """Memory of `pids`; what several share is counted once."""
    kib = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        kib += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return kib / 1024


def machine_cpu_s():
    """Seconds of CPU that the machine was busy with anything: user, nice, system, interrupts."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (fields[0] + fields[1] + fields[2] + fields[5] + fields[6]) / TICKS_PER_SECOND


class Meter:
    """What a system's servers and everybody else used from now on."""

    def __init__(self, server_roots):
        self.server_roots = server_roots
        self.begun = self._now()

    def _now(self):
        return cpu_s(trees(self.server_roots)), cpu_s([os.getpid()]), time.monotonic(), machine_cpu_s()

    def read(self, worker_s, tasks):
        """Seconds of CPU for 10,000 tasks, and how many cores processes had that do not belong here.

        `worker_s` is what the system's own processes used meanwhile.
        """
        servers, harness, seconds, machine = (after - before for before, after in zip(self.begun, self._now()))
        others = max(machine - servers - harness - worker_s, 0.0)
        return {
            "servers_cpu_s_per_10k": round(servers * 10_000 / tasks, 3),
            "others_cores": round(others / seconds, 2),
        }
