"""python bench.py submit|latency COUNT: prints what was measured as JSON."""

import json
import os
import sys
import time

from tasks import broker, echo

PAUSE_S = 0.005  # between two tasks, so that each finds the system at rest
WARM_UP = 20


def submit(payload, count):
    echo.send(payload)  # opens the connection and makes the queue
    begun = time.monotonic()
    for _ in range(count - 1):
        echo.send(payload)
    seconds = (time.monotonic() - begun) * count / (count - 1)
    broker.close()
    return {"seconds": seconds}


def latency(payload, count):
    waits_ms = []
    for _ in range(WARM_UP + count):
        begun = time.monotonic()
        echo.send(payload).get_result(block=True, timeout=30_000)
        waits_ms.append((time.monotonic() - begun) * 1000)
        time.sleep(PAUSE_S)
    return {"waits_ms": waits_ms[WARM_UP:]}


what, count = sys.argv[1], int(sys.argv[2])
scenario = {"submit": submit, "latency": latency}[what]
print(json.dumps(scenario(json.loads(os.environ["PAYLOAD"]), count)))
