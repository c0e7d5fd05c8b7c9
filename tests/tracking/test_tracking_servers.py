"""W&B online, with servers that are of no use: no run waits for them for long, and none ends for them.

Each is talked to by a process of its own, so that what hangs at its end is seen, too; a process that takes
too long is killed, which fails the test.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from unlearn.system.network import silent, within

#: What a run tells a tracker; with words on the line, it waits for one on stdin before it goes on.
RUN = """
import sys
from pathlib import Path
from unlearn.tracking import several, wandb
wandb.FINISH = 3.0
folder = Path(sys.argv[1])
tracker = wandb.Wandb(project="p", entity=None, mode="auto")
with several.tracked(tracker, folder, {"seed": 0}, "run", None) as told:
    told.log("erase", {"loss": 0.5}, 0)
    if sys.argv[2:]:
        print("begun", flush=True)
        sys.stdin.readline()
    told.log("erase", {"loss": 0.25}, 1)
    told.summary({"erased": 12.5})
    told.files([folder / "metrics.jsonl"])
    if sys.argv[2:] == ["stop"]:
        raise KeyboardInterrupt
print("done")
"""
#: Seconds after which a process is killed; today's limits take it a third of that.
LIMIT = 60


class Server(BaseHTTPRequestHandler):
    """Knows as much of W&B's as it takes to begin a run. ``mode``: well, failing (each post) or mute."""

    protocol_version = "HTTP/1.1"
    mode = "well"
    asked: list

    def do_GET(self):
        self._answer(200, {})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.asked.append(body.decode(errors="replace"))
        if self.mode == "mute":
            time.sleep(3 * LIMIT)
        query = json.loads(body)["query"] if self.path == "/graphql" else ""
        data = {}
        if "upsertBucket" in query:
            project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "me"}}
            bucket = {"id": "b", "name": "run", "displayName": "run", "config": "{}", "project": project}
            data = {"upsertBucket": {"inserted": True, "bucket": bucket}}
        elif "createRunFiles" in query:
            data = {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": []}}
        self._answer(500 if self.mode == "failing" else 200, {"data": data})

    def _answer(self, code, content):
        text = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments):
        pass


@contextmanager
def served(mode):
    """The address of such a server, and its class; ``dead`` is a port where nobody listens."""
    kind = type("Own", (Server,), {"mode": mode, "asked": []})
    if mode in ("dead", "silent"):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            if mode == "silent":  # the system takes the connection, and nobody answers
                listener.listen()
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", kind
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", kind
        finally:
            server.shutdown()


@contextmanager
def running(folder, url, *words):
    own = {
        name: str(folder / name)
        for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "NETRC")
    }
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("WANDB_")},
        **own,
        "WANDB_BASE_URL": url,
        "WANDB_API_KEY": "k" * 40,
    }
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), *words],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("mode", ["dead", "silent", "failing", "mute"])
def test_a_run_goes_on_offline_where_the_server_is_of_no_use(tmp_path, mode):
    with served(mode) as (url, _), running(tmp_path, url) as process:
        out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, err
    assert out == "done\n"
    warned, sync = (line for line in err.splitlines() if line.startswith("unlearn: "))
    assert "W&B's server does not do its part (" in warned
    (log,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert sync.endswith(f"wandb sync {log.parent}")
    assert b"erase/loss" in log.read_bytes()
    assert "Traceback" not in err


@pytest.mark.parametrize("mode", ["dead", "failing", "mute"])
def test_a_server_that_is_lost_on_the_way_does_not_hold_up_the_end(tmp_path, mode):
    with served("well") as (url, kind), running(tmp_path, url, "wait") as process:
        assert process.stdout.readline() == "begun\n"
        kind.mode = mode
        if mode == "dead":
            kind._answer = lambda self, *_: self.close_connection or self.connection.close()
        out, err = process.communicate("go on\n", timeout=LIMIT)
    assert process.returncode == 0, err
    assert out == "done\n"
    (log,) = tmp_path.glob("wandb/run-*/run-*.wandb")
    assert f"wandb sync {log.parent}" in err
    assert "Traceback" not in err


def test_a_server_that_is_well_gets_the_run_and_nobody_is_warned(tmp_path):
    with served("well") as (url, kind), running(tmp_path, url, "wait") as process:
        assert process.stdout.readline() == "begun\n"
        _, err = process.communicate("go on\n", timeout=LIMIT)
        assert any("upsertBucket" in text for text in kind.asked)
    assert process.returncode == 0, err
    assert not list(tmp_path.glob("wandb/offline-run-*"))


def test_a_run_that_is_stopped_is_told_to_be_preempted(tmp_path):
    with served("well") as (url, kind), running(tmp_path, url, "stop") as process:
        assert process.stdout.readline() == "begun\n"
        process.communicate("go on\n", timeout=LIMIT)
        assert any('"preempting"' in text for text in kind.asked)
        assert any('"exitcode":255' in text for text in kind.asked)


def test_a_call_that_hangs_is_left_behind():
    with pytest.raises(TimeoutError, match="no answer within 0 s"):
        within(0.1, lambda: time.sleep(60))
    assert within(10, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        within(10, lambda: 1 / 0)


@pytest.mark.parametrize(
    ("mode", "said"), [("dead", "refused"), ("silent", "no answer|timed out"), ("well", None)]
)
def test_a_server_that_does_not_serve_is_told_from_one_that_does(mode, said):
    with served(mode) as (url, _):
        problem = silent(url, 0.5)
    assert problem is None if said is None else any(text in problem for text in said.split("|"))
