"""The task of the benchmark on Celery, in the setting that VARIANT names."""

import os

from celery import Celery

app = Celery("tasks", broker=os.environ["AMQP_URL"])

if os.environ["VARIANT"] == "durable":
    # Nothing is lost: quorum queue, publisher confirms, acknowledged when done, results in PostgreSQL.
    app.conf.task_default_queue_type = "quorum"
    app.conf.broker_transport_options = {"confirm_publish": True}
    app.conf.task_acks_late = True
    app.conf.task_reject_on_worker_lost = True
    app.conf.result_backend = os.environ["DATABASE_URL"].replace("postgres://", "db+postgresql+psycopg://")
else:
    # As it comes: a durable classic queue, acknowledged before the task runs, no results.
    app.conf.task_ignore_result = True

tally = os.open(os.environ["TALLY"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@app.task
def echo(payload):
    # The size of the file is how many tasks have run.
    os.write(tally, b".")
    return payload
