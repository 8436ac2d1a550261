"""The task of the benchmark on Dramatiq, in the setting that VARIANT names."""

import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

durable = os.environ["VARIANT"] == "durable"

# Quorum queues it has not; messages are persistent and acknowledged when done in any case.
broker = RabbitmqBroker(url=os.environ["AMQP_URL"], confirm_delivery=durable)
if durable:
    broker.add_middleware(Results(backend=RedisBackend(url=os.environ["REDIS_URL"])))
dramatiq.set_broker(broker)

tally = os.open(os.environ["TALLY"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@dramatiq.actor(**({"store_results": True} if durable else {}))
def echo(payload):
    # The size of the file is how many tasks have run.
    os.write(tally, b".")
    return payload if durable else None
