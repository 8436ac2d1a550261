"""Installs what is compared, in the versions that are pinned beside each peer, into a folder of the checkout."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

TOP = Path(__file__).resolve().parents[3]
PEERS = TOP / "benches" / "peers"
FOLDER = TOP / "target" / "peers"


def say(words):
    print(words, file=sys.stderr, flush=True)


def _do(command, folder=TOP, **environment):
    say(f"==> {' '.join(str(word) for word in command)}")
    subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=True, stdout=sys.stderr)


def _once(folder, inputs, install):
    """Calls `install` unless it has been done for `inputs` as they are now."""
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in inputs)).hexdigest()
    mark = folder / "installed"
    if mark.exists() and mark.read_text() == wanted:
        return
    install()
    mark.write_text(wanted)


def _python(peer):
    folder, pins = FOLDER / peer, PEERS / peer / "requirements.txt"

    def install():
        _do([sys.executable, "-m", "venv", "--clear", folder])
        _do([folder / "bin" / "pip", "install", "--quiet", "--no-deps", "-r", pins])

    _once(folder, [pins], install)
    return folder / "bin" / "python"


def _node(peer):
    """A copy of the peer's folder beside its packages: node looks for them there."""
    folder = FOLDER / peer
    shutil.copytree(PEERS / peer, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    pins = [folder / "package.json", folder / "package-lock.json"]
    _once(folder, pins, lambda: _do(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder))
    return folder


def _apalis():
    manifest, target = PEERS / "apalis" / "Cargo.toml", FOLDER / "apalis"
    _do(["cargo", "build", "--release", "--locked", "--manifest-path", manifest, "--target-dir", target])
    return target / "release" / "apalis-peer"


def _longshore():
    # Taken out of the environment: it would be read there as a setting that does not exist.
    if given := os.environ.pop("LONGSHORE_BIN", None):
        return Path(given).resolve()
    _do(["cargo", "build", "--release", "--locked"])
    return TOP / "target" / "release" / "longshore"


def _redis():
    if shutil.which("redis-server"):
        return
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    try:
        _do([*root, "apt-get", "install", "-y", "--no-install-recommends", "redis-server"])
    except (OSError, subprocess.CalledProcessError):
        sys.exit("this needs Redis; as root, type: apt-get install -y redis-server")


def install(systems):
    """The folder of each peer's scripts, and the programs that commands name."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = {system.folder for system in systems}
    _do(["sh", TOP / "tests" / "services" / "install-debian.sh"])
    if any(server.startswith("redis") for system in systems for server in system.servers):
        _redis()
    if wanted & {"bullmq", "graphile-worker"} and not shutil.which("npm"):
        sys.exit("BullMQ and graphile-worker need node 20 or newer, with npm; or leave them out by `--only`")
    folders = {peer: PEERS / peer for peer in wanted}
    programs = {}
    for peer in sorted(wanted):
        if peer in ("celery", "dramatiq"):
            programs[f"python-{peer}"] = _python(peer)
        elif peer in ("bullmq", "graphile-worker"):
            folders[peer] = _node(peer)
        elif peer == "apalis":
            programs["apalis"] = _apalis()
        else:
            programs["longshore"], folders[peer] = _longshore(), TOP
    return folders, programs


def versions(programs):
    """What was compared with what, in words."""
    def answer(*command):
        said = subprocess.run(command, capture_output=True, text=True)
        found = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
        return found[0] if found else "?"

    def pinned(path, pattern):
        return re.search(pattern, (PEERS / path).read_text())[1]

    postgres = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))[-1]
    rabbitmq = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))[-1]
    return {
        "PostgreSQL": answer(postgres, "--version"),
        "RabbitMQ": rabbitmq.name.removeprefix("rabbitmq_server-"),
        "Redis": answer("redis-server", "--version"),
        "Python": sys.version.split()[0],
        "node": answer("node", "--version"),
        "Celery": pinned("celery/requirements.txt", r"\ncelery==(\S+)"),
        "Dramatiq": pinned("dramatiq/requirements.txt", r"\ndramatiq==(\S+)"),
        "BullMQ": pinned("bullmq/package.json", r'"bullmq": "(\S+)"'),
        "graphile-worker": pinned("graphile-worker/package.json", r'"graphile-worker": "(\S+)"'),
        "apalis": pinned("apalis/Cargo.toml", r'apalis = "=(\S+)"'),
        "Longshore": answer(programs["longshore"], "--version") if "longshore" in programs else "?",
    }
