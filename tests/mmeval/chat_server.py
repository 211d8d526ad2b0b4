"""A chat-completions server for tests that misbehaves on purpose.

It answers with what it was sent, and can fail in every way that servers fail: by status, by time,
by connection, by body. It counts every attempt by the request's text.
"""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

Fault = str | None
Plan = Callable[[str, int], Fault]

FAULTS = ("429", "500", "timeout", "reset", "cut", "empty", "error200", "nomessage")


class ChatServer:
    """Serves on a free port of this machine until closed.

    Args:
        plan: From the request's text and the number of earlier attempts to the fault, if any.
        logprobs: Whether to tell token probabilities.
        answer: From the request's body to the message.
    """

    def __init__(
        self,
        plan: Plan = lambda text, attempt: None,
        *,
        logprobs: bool = True,
        answer: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        delay_s: float = 0.0,
    ) -> None:
        self.attempts: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: dict[str, list[float]] = {}
        self.flying = self.most_flying = 0
        self.plan, self.logprobs, self.delay_s = plan, logprobs, delay_s
        self.answer = answer or (lambda body: {"content": "yes"})
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                self.reply(200, {"object": "list", "data": [{"id": "served"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = text_of(body)
                with outer.lock:
                    attempt = outer.attempts[text]
                    outer.attempts[text] += 1
                    outer.bodies.append(body)
                    outer.headers.append(dict(self.headers))
                    outer.times.setdefault(text, []).append(time.monotonic())
                    outer.flying += 1
                    outer.most_flying = max(outer.most_flying, outer.flying)
                try:
                    time.sleep(outer.delay_s)
                    self.act(outer.plan(text, attempt), body)
                finally:
                    with outer.lock:
                        outer.flying -= 1

            def act(self, fault: Fault, body: dict[str, Any]) -> None:
                good = outer.completion(body)
                if fault is None:
                    self.reply(200, good)
                elif fault == "429":
                    self.reply(429, {"error": {"message": "slow down"}}, {"Retry-After": "0.3"})
                elif fault == "timeout":
                    time.sleep(1.5)
                    self.reply(200, good)
                elif fault == "reset":
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                elif fault == "cut":
                    self.raw(200, json.dumps(good).encode()[:40])
                elif fault == "empty":
                    self.reply(200, good | {"choices": []})
                elif fault == "error200":
                    self.reply(200, {"error": {"message": "engine died"}})
                elif fault == "nomessage":
                    self.reply(200, {"choices": [{}]})
                else:
                    self.reply(int(fault), {"error": {"message": f"status {fault}"}})

            def reply(
                self, status: int, data: dict[str, Any], headers: dict[str, str] | None = None
            ) -> None:
                self.raw(status, json.dumps(data).encode(), headers)

            def raw(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                try:
                    self.send_response(status)
                    for name, value in (headers or {}).items():
                        self.send_header(name, value)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True

        class Server(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant"} | self.answer(body)
        choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": "stop"}
        if self.logprobs and body.get("logprobs"):
            top = [("yes", -0.2), (" no", -2.0), ("A", -3.0), ("Yes", -4.0), ("maybe", -5.0)]
            told = [{"token": token, "logprob": value} for token, value in top]
            choice["logprobs"] = {
                "content": [{"token": "yes", "logprob": -0.2, "top_logprobs": told}]
            }
        usage = {"prompt_tokens": 11, "completion_tokens": 2}
        return {"id": "x", "choices": [choice], "usage": usage}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def text_of(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return "".join(part["text"] for part in content if part["type"] == "text")


def pictures_of(body: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    found = []
    for part in body["messages"][-1]["content"]:
        if part["type"] == "image_url":
            head, _, data = part["image_url"]["url"].partition(",")
            assert head == "data:image/png;base64"
            found.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))))
    return found


@contextmanager
def serving(*args: Any, **kwargs: Any) -> Iterator[ChatServer]:
    server = ChatServer(*args, **kwargs)
    try:
        yield server
    finally:
        server.close()
