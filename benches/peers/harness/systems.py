"""What is compared, with the settings of each and what they are worth."""

from dataclasses import dataclass, field

OURS = "longshore"

# What a system keeps through all losses, best first.
RESULTS, TASKS, NOT_ALL = KEEPS = ("tasks and results", "tasks", "not all tasks")


@dataclass(frozen=True)
class System:
    key: str
    name: str
    setting: str
    folder: str
    # Of `postgres`, `rabbitmq`, `redis-everysec`, `redis-always`.
    servers: tuple
    # Tasks to drain, as a share of `--tasks`: each shall take seconds, not minutes.
    share: float
    # Tasks to wait for one by one; 0: it has no way to wait for a result.
    waits: int
    # How the client submits.
    submits: str
    # What becomes of tasks: after `kill -9` of the worker, of a server, after a power cut; and where results are.
    worker: str
    server: str
    power: str
    result: str
    # What none of these takes, of `KEEPS`.
    keeps: str
    worker_command: tuple = ()
    client_command: tuple = ()
    prepare_command: tuple = ()
    environment: dict = field(default_factory=dict)

    @property
    def short(self):
        variant = self.environment.get("VARIANT")
        return f"{self.name} ({variant})" if variant else self.name


KEPT = "all kept"
UNCONFIRMED = "lost if not yet on the disk, unnoticed: submits are not confirmed"
LATER = "all kept on this host, up to 1 s lost"

# What all settings of one program share.
CELERY = {
    "name": "Celery",
    "folder": "celery",
    "worker_command": ("{python}", "-m", "celery", "-A", "tasks", "worker", "-c", "2", "-l", "warning"),
    "client_command": ("{python}", "bench.py"),
}
DRAMATIQ = {
    "name": "Dramatiq",
    "folder": "dramatiq",
    "worker_command": ("{python}", "-m", "dramatiq", "tasks", "-p", "2", "-t", "8"),
    "client_command": ("{python}", "bench.py"),
}
BULLMQ = {
    "name": "BullMQ",
    "folder": "bullmq",
    "worker_command": ("node", "worker.js"),
    "client_command": ("node", "bench.js"),
}
GRAPHILE = {
    "name": "graphile-worker",
    "folder": "graphile-worker",
    "worker_command": ("node", "worker.js"),
    "client_command": ("node", "bench.js"),
}

SYSTEMS = [
    System(
        key=OURS,
        name="Longshore",
        setting="1,000 slots",
        folder=OURS,
        servers=("postgres", "rabbitmq"),
        share=1,
        waits=500,
        submits="512 at once, each stored",
        worker="again within seconds",
        server=KEPT,
        power=KEPT,
        result="PostgreSQL",
        keeps=RESULTS,
    ),
    System(
        key="celery-durable",
        **CELERY,
        setting="late ack, quorum queue, confirms, results in PostgreSQL",
        servers=("postgres", "rabbitmq"),
        share=0.1,
        waits=100,
        submits="one by one, confirmed",
        worker="again with the next worker",
        server=KEPT,
        power=KEPT,
        result="PostgreSQL",
        keeps=RESULTS,
        environment={"VARIANT": "durable"},
    ),
    System(
        key="celery-default",
        **CELERY,
        setting="its defaults: early ack, classic queue, no confirms, no results",
        servers=("rabbitmq",),
        share=1 / 3,
        waits=0,
        submits="one by one, unconfirmed",
        worker="what it holds is **lost**",
        server=UNCONFIRMED,
        power=UNCONFIRMED,
        result="none",
        keeps=NOT_ALL,
        environment={"VARIANT": "default"},
    ),
    System(
        key="dramatiq-durable",
        **DRAMATIQ,
        setting="2 processes of 8 threads, confirms, results in Redis (`appendfsync everysec`)",
        servers=("rabbitmq", "redis-everysec"),
        share=1 / 6,
        waits=500,
        submits="one by one, confirmed",
        worker="again with the next worker",
        server=KEPT,
        power="tasks kept, up to 1 s of results lost",
        result="Redis, 10 minutes",
        keeps=TASKS,
        environment={"VARIANT": "durable"},
    ),
    System(
        key="dramatiq-default",
        **DRAMATIQ,
        setting="2 processes of 8 threads, no confirms, no results",
        servers=("rabbitmq",),
        share=2 / 3,
        waits=0,
        submits="one by one, unconfirmed",
        worker="again with the next worker",
        server=UNCONFIRMED,
        power=UNCONFIRMED,
        result="none",
        keeps=NOT_ALL,
        environment={"VARIANT": "default"},
    ),
    System(
        key="bullmq-durable",
        **BULLMQ,
        setting="50 concurrent, Redis with `appendfsync always`, finished jobs kept",
        servers=("redis-always",),
        share=2 / 3,
        waits=500,
        submits="batches of 500",
        worker="again after 30 to 60 s",
        server=KEPT,
        power=KEPT,
        result="Redis",
        keeps=RESULTS,
        environment={"VARIANT": "durable"},
    ),
    System(
        key="bullmq-fast",
        **BULLMQ,
        setting="50 concurrent, Redis with `appendfsync everysec`, finished jobs removed",
        servers=("redis-everysec",),
        share=2 / 3,
        waits=500,
        submits="batches of 500",
        worker="again after 30 to 60 s",
        server=KEPT,
        power="up to 1 s **lost**",
        result="none after the drain",
        keeps=NOT_ALL,
        environment={"VARIANT": "fast"},
    ),
    System(
        key="graphile-batching",
        **GRAPHILE,
        setting="24 concurrent, local queue of 500, batched completion",
        servers=("postgres",),
        share=1,
        waits=0,
        submits="batches of 500",
        worker="again after 4 h",
        server=KEPT,
        power=KEPT,
        result="none",
        keeps=TASKS,
        environment={"VARIANT": "batching"},
    ),
    System(
        key="graphile-plain",
        **GRAPHILE,
        setting="10 concurrent",
        servers=("postgres",),
        share=1 / 3,
        waits=0,
        submits="batches of 500",
        worker="again after 4 h",
        server=KEPT,
        power=KEPT,
        result="none",
        keeps=TASKS,
        environment={"VARIANT": "plain"},
    ),
    System(
        key="apalis-amqp",
        name="apalis-amqp",
        setting="200 concurrent, quorum queue, no confirms, no results",
        folder="apalis",
        servers=("rabbitmq",),
        share=1 / 2,
        waits=0,
        submits="16 clients one by one, unconfirmed",
        worker="again with the next worker",
        server=UNCONFIRMED,
        power=UNCONFIRMED,
        result="none",
        keeps=NOT_ALL,
        worker_command=("{apalis}", "amqp", "worker"),
        client_command=("{apalis}", "amqp"),
    ),
    System(
        key="apalis-postgres",
        name="apalis-postgres",
        setting="200 concurrent, batches of 200, NOTIFY",
        folder="apalis",
        servers=("postgres",),
        share=2 / 3,
        waits=15,
        submits="batches of 500",
        worker="again after 300 s",
        server=KEPT,
        power=KEPT,
        result="PostgreSQL",
        keeps=RESULTS,
        worker_command=("{apalis}", "postgres", "worker"),
        client_command=("{apalis}", "postgres"),
        prepare_command=("{apalis}", "postgres", "prepare"),
    ),
]
