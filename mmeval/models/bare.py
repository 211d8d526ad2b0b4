"""The same requests without mmeval, for `mmeval.models.bench` to compare with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
from collections.abc import Iterable, Iterator
from typing import Any

from mmeval.models.openai import data_uri
from mmeval.schema import Request, Response

__all__ = ["BareClient", "LLMChat", "answering"]


def _answered(request: Request, text: str) -> Response:
    names = (request.key, request.benchmark, request.sample, request.condition, request.trial)
    return Response(*names, status="ok", text=text.strip())


class LLMChat:
    """``vllm.LLM.chat``, given everything at once.

    Args:
        llm: A ``vllm.LLM``.
        top_logprobs: Alternatives of the first token.
    """

    def __init__(self, llm: Any, top_logprobs: int = 20) -> None:  # noqa: ANN401
        self._llm, self._top_logprobs = llm, top_logprobs

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """Answers the requests."""
        import vllm
        from PIL import Image

        asked = list(requests)
        chats, sampling = [], []
        for request in asked:
            images = iter(request.images)
            chats.append(
                [
                    {**message, "content": [
                        {"type": "image_pil", "image_pil": Image.fromarray(next(images))}
                        if part["type"] == "image" else part
                        for part in message["content"]
                    ]}
                    for message in request.messages
                ]
            )  # fmt: skip
            sampling.append(
                vllm.SamplingParams(
                    temperature=request.temperature,
                    max_tokens=request.max_new_tokens,
                    logprobs=self._top_logprobs if request.candidates else None,
                )
            )
        outputs = self._llm.chat(chats, sampling, use_tqdm=False)
        for request, output in zip(asked, outputs, strict=True):
            yield _answered(request, output.outputs[0].text)


class BareClient:
    """An httpx2 client that sends what it is told, and gives up at the first fault.

    Args:
        model: Name of the model at the server.
        url: Such as ``http://127.0.0.1:8000/v1``.
        concurrency: Requests at once.
        top_logprobs: Alternatives of each token.
    """

    def __init__(self, model: str, url: str, concurrency: int = 64, top_logprobs: int = 20) -> None:
        self._model, self._url, self._top_logprobs = model, url, top_logprobs
        self._concurrency = concurrency

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """Answers the requests."""
        yield from asyncio.run(self._all(list(requests)))

    async def _all(self, requests: list[Request]) -> list[Response]:
        import httpx2

        free = asyncio.Semaphore(self._concurrency)
        encoded: dict[int, str] = {}  # a picture that is asked about again is encoded once
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=512)
        headers = {"Content-Type": "application/json"}

        def body(request: Request) -> bytes:
            for image in request.images:
                if id(image) not in encoded:
                    encoded[id(image)] = data_uri(image)
            uris = iter([encoded[id(image)] for image in request.images])
            messages = [
                {**message, "content": [
                    {"type": "image_url", "image_url": {"url": next(uris)}}
                    if part["type"] == "image" else part
                    for part in message["content"]
                ]}
                for message in request.messages
            ]  # fmt: skip
            fields: dict[str, Any] = {"model": self._model, "messages": messages}
            fields |= {"max_tokens": request.max_new_tokens, "temperature": request.temperature}
            if request.candidates:
                fields |= {"logprobs": True, "top_logprobs": self._top_logprobs}
            return json.dumps(fields).encode()

        async def one(client: Any, request: Request) -> Response:  # noqa: ANN401
            async with free:
                reply = await client.post(f"{self._url}/chat/completions", content=body(request))
                reply.raise_for_status()
                return _answered(request, reply.json()["choices"][0]["message"]["content"])

        async with httpx2.AsyncClient(headers=headers, timeout=300.0, limits=limits) as client:
            return list(await asyncio.gather(*(one(client, request) for request in requests)))


@contextlib.contextmanager
def answering(delay_s: float) -> Iterator[str]:
    """Runs a server in another process that answers yes to everything, and yields its address.

    Args:
        delay_s: Seconds from a request to its answer, however many there are at once.
    """
    spawn = multiprocessing.get_context("spawn")
    port = spawn.SimpleQueue()
    process = spawn.Process(target=_serve, args=(port, delay_s), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{port.get()}/v1"
    finally:
        process.terminate()
        process.join()


def _serve(port: Any, delay_s: float) -> None:  # noqa: ANN401
    alternatives = [
        {"token": token, "logprob": -0.2 - 2 * i} for i, token in enumerate(("yes", "no"))
    ]
    first = {"token": "yes", "logprob": -0.2, "top_logprobs": alternatives}
    choice = {"index": 0, "finish_reason": "stop", "logprobs": {"content": [first]},
              "message": {"role": "assistant", "content": "yes"}}  # fmt: skip
    usage = {"prompt_tokens": 11, "completion_tokens": 2}
    answer = json.dumps({"choices": [choice], "usage": usage}).encode()
    models = json.dumps({"data": [{"id": "bench"}]}).encode()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                _, found, length = head.partition(b"content-length:")
                if found:
                    await reader.readexactly(int(length.split(b"\r\n", 1)[0]))
                    await asyncio.sleep(delay_s)
                reply = answer if found else models
                start = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
                writer.write(start + str(len(reply)).encode() + b"\r\n\r\n" + reply)
                await writer.drain()
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(connection, "127.0.0.1", 0, limit=1 << 20)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())
