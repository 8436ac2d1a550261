"""python bench.py submit|latency COUNT: prints what was measured as JSON."""

import json
import os
import sys
import time

from tasks import echo

PAUSE_S = 0.005  # between two tasks, so that each finds the system at rest
WARM_UP = 20


def submit(payload, count):
    echo.delay(payload)  # opens the connection and makes the queue
    begun = time.monotonic()
    for _ in range(count - 1):
        echo.delay(payload)
    return {"seconds": (time.monotonic() - begun) * count / (count - 1)}


def latency(payload, count):
    waits_ms = []
    for _ in range(WARM_UP + count):
        begun = time.monotonic()
        echo.delay(payload).get(timeout=30)
        waits_ms.append((time.monotonic() - begun) * 1000)
        time.sleep(PAUSE_S)
    return {"waits_ms": waits_ms[WARM_UP:]}


what, count = sys.argv[1], int(sys.argv[2])
scenario = {"submit": submit, "latency": latency}[what]
print(json.dumps(scenario(json.loads(os.environ["PAYLOAD"]), count)))
