"""A language model's server on 127.0.0.1 that speaks OpenAI's chat protocol, and can fail as such servers do."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DESCRIPTION = "slim grey box with a round lens, a row of small green lights and a coiled cable, on a desk"


class ChatServer:
    """The server, the requests that it saw, and what goes wrong.

    Attributes:
        answer: Gives a message's content for a request's body; the text itself does too.
        faults: What happens to the next requests, one each: a status code, a pair of one and a header, "garbage" (no JSON), "odd"
            (JSON that is no completion), "slow", "drop"; None for nothing.
        models: What it lists; None for a server that does not tell.
        requests: The bodies of the chat requests, in the order in which they came.
        keys: Their authorization headers.
        finish_reason: Of every answer.
    """

    def __init__(self) -> None:
        self.answer: str | Callable[[dict[str, Any]], str | None] = DESCRIPTION
        self.faults: list[Any] = []
        self.models: list[str] | None = ["tiny"]
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.finish_reason = "stop"
        self.slow_seconds = 1.0
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def names(self) -> list[str]:
        """The names that were asked for."""
        return [request["messages"][-1]["content"].rpartition("Name: ")[2] for request in self.requests]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def _handler_of(server: ChatServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path != "/v1/models" or server.models is None:
                self._send(404, {"error": {"message": "no such page"}})
            else:
                self._send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in server.models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.requests.append(body)
                server.keys.append(self.headers.get("Authorization"))
                fault = server.faults.pop(0) if server.faults else None
            status, headers = fault if isinstance(fault, tuple) else (fault, {})
            if status == "drop":
                self.close_connection = True
            elif isinstance(status, int):
                self._send(status, {"error": {"message": f"planned {status}"}}, headers)
            elif status == "garbage":
                self._send_bytes(200, b"<html>welcome</html>")
            elif status == "odd":
                self._send(200, {"object": "something else"})
            elif self.path != "/v1/chat/completions":
                self._send(404, {"error": {"message": f"no such page {self.path}"}})
            elif server.models is not None and body["model"] not in server.models:
                self._send(404, {"error": {"message": f"model {body['model']!r} not found"}})
            else:
                if status == "slow":
                    time.sleep(server.slow_seconds)
                self._complete(body)

        def _complete(self, body: dict[str, Any]) -> None:
            content = server.answer(body) if callable(server.answer) else server.answer
            choice = {"index": 0, "finish_reason": server.finish_reason, "message": {"role": "assistant", "content": content}}
            self._send(200, {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]})

        def _send(self, status: int, content: dict[str, Any], headers: dict[str, str] | None = None) -> None:
            self._send_bytes(status, json.dumps(content).encode(), headers)

        def _send_bytes(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            with contextlib.suppress(OSError):
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", "Content-Length": len(content), **(headers or {})}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *arguments: Any) -> None:
            pass

    return Handler
