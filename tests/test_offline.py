"""Whether the Hub can be reached: asked of servers on 127.0.0.1 that answer, refuse, or are slow."""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from timm_inject import offline


class Server:
    """Answers HEAD with the planned statuses, the last one for ever; "slow" waits before it answers 200."""

    def __init__(self, *plan):
        self.plan, self.asked = list(plan), 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                status = server.plan[min(server.asked, len(server.plan) - 1)]
                server.asked += 1
                if status == "slow":
                    time.sleep(0.6)
                with contextlib.suppress(OSError):
                    self.send_response(200 if status == "slow" else status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}"

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def start(monkeypatch):
    servers = []

    def start(*plan):
        servers.append(Server(*plan))
        monkeypatch.setattr(offline.hub_constants, "ENDPOINT", servers[-1].address)
        return servers[-1]

    monkeypatch.setattr(offline.hub_constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(offline, "_PROBE_SECONDS", 0.2)
    monkeypatch.setattr(offline, "_reached", set())
    monkeypatch.setattr(offline, "_failures", {})
    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("status", [200, 401, 404, 405, 429])
def test_a_server_that_answers_is_reachable_and_not_asked_again(start, status):
    server = start(status)
    assert offline.hub_is_reachable()
    assert offline.hub_is_reachable()
    assert server.asked == 1


@pytest.mark.parametrize("status", [403, 407, 451, 502, 503, 511])
def test_what_a_proxy_answers_is_not_the_hub(start, status):
    server = start(status)
    assert not offline.hub_is_reachable()
    assert not offline.hub_is_reachable()
    assert server.asked == 1  # not each time anew


def test_a_time_out_is_asked_once_more_at_once(start):
    server = start("slow", 200)
    assert offline.hub_is_reachable()
    assert server.asked == 2


def test_a_failure_is_not_kept_for_ever(start, monkeypatch):
    server = start("slow", "slow", 200)
    assert not offline.hub_is_reachable()
    assert not offline.hub_is_reachable()
    assert server.asked == 2
    monkeypatch.setattr(offline, "_ASK_AGAIN_SECONDS", 0.0)
    assert offline.hub_is_reachable()


def test_no_server_and_offline_mode_are_told_without_waiting(start, monkeypatch):
    server = start(200)
    server.close()
    begun = time.monotonic()
    assert not offline.hub_is_reachable()
    assert time.monotonic() - begun < 2
    again = start(200)
    monkeypatch.setattr(offline.hub_constants, "HF_HUB_OFFLINE", True)
    assert not offline.hub_is_reachable()
    assert again.asked == 0
