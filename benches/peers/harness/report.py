"""Raw results in words: medians, a table, what the others do better; and where they stand in the documentation."""

import json
import statistics

from . import chart
from .install import PEERS, TOP
from .systems import OURS, SYSTEMS

DOCS = TOP / "docs" / "performance.md"
PLOT = TOP / "docs" / "peers.svg"
RAW = PEERS / "results.json"
BEGIN, END = "<!-- peers: begin; written by benches/peers/run --write-docs -->", "<!-- peers: end -->"

# What is compared: the name of the number, what it is called, its unit, and whether more is better.
FIGURES = [
    ("tasks_per_s", "drain", "tasks/s", True),
    ("submitted_per_s", "submit", "tasks/s", True),
    ("p50_ms", "wait, p50", "ms", False),
    ("p99_ms", "wait, p99", "ms", False),
    ("worker_cpu_s_per_10k", "CPU of the worker for 10,000 tasks", "s", False),
    ("servers_cpu_s_per_10k", "CPU of its servers for 10,000 tasks", "s", False),
    ("worker_mib", "memory of the worker after the drain", "MiB", False),
]


def raw(results):
    """JSON with one line for each run."""
    runs = ",\n".join(json.dumps(run) for run in results["runs"])
    return f'{{"about": {json.dumps(results["about"])},\n"runs": [\n{runs}\n]}}\n'


def failures(results):
    return [run for run in results["runs"] if "error" in run]


def others_cores(results):
    """How many cores processes had that do not belong here, as the median of the drains."""
    found = [run["others_cores"] for run in results["runs"] if "others_cores" in run]
    return statistics.median(found) if found else 0.0


class Row:
    """All runs of one system."""

    def __init__(self, system, runs):
        self.system, self.runs = system, runs

    def values(self, figure):
        return [run[figure] for run in self.runs if figure in run]

    def median(self, figure):
        values = self.values(figure)
        return statistics.median(values) if values else None


def rows(results):
    """A row for each system that was measured, the fastest first."""
    found = []
    for system in SYSTEMS:
        runs = [run for run in results["runs"] if run["variant"] == system.key]
        if runs:
            found.append(Row(system, runs))
    return sorted(found, key=lambda row: -(row.median("tasks_per_s") or 0))


def number(value):
    """Three digits that mean something."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(row, figure):
    values = row.values(figure)
    text = number(row.median(figure))
    return f"{text} ({number(min(values))}–{number(max(values))})" if len(values) > 1 else text


def table(head, lines):
    return "\n".join(["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines]])


def title(row):
    name = f"**{row.system.short}**" if row.system.key == OURS else row.system.short
    return f"{name}: {row.system.setting}"


def figures_table(found):
    head = ["system", "drain, tasks/s", "ours is", "kept", "submit, tasks/s", "wait for a result, p50 / p99 ms"]
    head += ["CPU s for 10,000, worker + servers", "worker MiB"]
    own = next((row.median("tasks_per_s") for row in found if row.system.key == OURS), None)
    lines = []
    for row in found:
        rate = row.median("tasks_per_s")
        waits = "no such way"
        if row.values("p50_ms"):
            waits = f"{number(row.median('p50_ms'))} / {number(row.median('p99_ms'))}"
        worker, servers = row.median("worker_cpu_s_per_10k"), row.median("servers_cpu_s_per_10k")
        lines.append(
            [
                title(row),
                spread(row, "tasks_per_s"),
                f"{number(own / rate)} x" if own and rate and row.system.key != OURS else "",
                row.system.keeps,
                f"{number(row.median('submitted_per_s'))}, {row.system.submits}",
                waits,
                f"{number(worker)} + {number(servers)}",
                number(row.median("worker_mib")),
            ]
        )
    return table(head, lines)


def losses_table(found):
    head = ["system", "`kill -9` of the worker", "`kill -9` of a server", "power cut", "result"]
    lines = []
    for row in found:
        system = row.system
        lines.append([title(row), system.worker, system.server, system.power, system.result])
    return table(head, lines)


def better(found):
    """Where a median of another system is better than ours, one line for each figure."""
    ours = next((row for row in found if row.system.key == OURS), None)
    if ours is None or not ours.values("tasks_per_s"):
        return "* Not known: Longshore was not measured."
    lines = []
    for figure, name, unit, is_more_better in FIGURES:
        own = ours.median(figure)
        others = [(row.median(figure), row.system.short) for row in found if row.values(figure)]
        ahead = [(value, short) for value, short in others if (value > own if is_more_better else value < own)]
        ahead.sort(reverse=is_more_better)
        if ahead:
            words = ", ".join(f"{short} {number(value)}" for value, short in ahead)
            lines.append(f"* {name}, {unit} (ours: {number(own)}): {words}")
    return "\n".join(lines) or "* In these runs, none of the figures above."


def markdown(results, plot):
    """The section of the documentation."""
    about, found = results["about"], rows(results)
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    most = max((run.get("others_cores", 0.0) for run in results["runs"]), default=0.0)
    quiet = f"{others_cores(results):.2f} (at most {most:.2f})"
    tasks = ", ".join(f"{row.system.short} {row.runs[0].get('tasks', 0):,}" for row in found)
    waits = ", ".join(f"{row.system.short} {row.system.waits}" for row in found if row.values("p50_ms"))
    rounds = "one round" if about["rounds"] == 1 else f"medians of {about['rounds']} rounds (smallest–largest)"
    failed = [f"\n* {run['variant']}, {run['scenario']}: {run['error'].splitlines()[0].replace(f'{TOP}/', '')}" for run in failures(results)]
    return f"""## Beside others

`benches/peers/run` does the same work with Longshore and with what people use instead, in turns on one machine:
{rounds}, {about['date']}, {about['cores']} cores ({about['cpu']}), Linux {about['kernel']}. Other processes of the
machine had {quiet} cores meanwhile. What is measured, and why each setting is fair:
[benches/peers/README.md](../benches/peers/README.md).

![How fast one worker drains a backlog]({plot})

{figures_table(found)}

"Kept" is what none of the losses of the last table takes.

### What others do better

{better(found)}

And without figures: Dramatiq, apalis-amqp and BullMQ do with one server what takes two here, graphile-worker and
apalis-postgres need only the database that is there anyway; a task is enqueued in the transaction of the
application by graphile-worker in any language; Celery has the most libraries around it, and knows other brokers.

### What is lost when

{losses_table(found)}

Tasks drained: {tasks}. Results waited for: {waits or "none"}. Versions: {versions}.
{"Failed:" + "".join(failed) if failed else ""}""".strip()


def write_docs(results):
    """Puts the section between its marks, and the plot and the raw results beside it."""
    text = DOCS.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    DOCS.write_text(f"{before}{BEGIN}\n\n{markdown(results, PLOT.name)}\n\n{END}{after}")
    PLOT.write_text(chart.svg(rows(results), results["about"]))
    RAW.write_text(raw(results))
