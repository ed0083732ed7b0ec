"""The listening side: a Unix socket, or TCP with mutual TLS. It dials nobody."""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from concurrent import futures
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Optional, Union

import grpc

from . import _messages as wire
from ._conversation import Conversation, Refused
from .trainer import Trainer

SERVICE = "consilium.trainer.v1.Trainer"


class Server:
    """A trainer that listens. Give either `socket`, a path, or `address` (`host:port`) with `keys`, the folder with
    trainer.key.pem, trainer.cert.pem and client.cert.pem from `consilium-client trainer keys`.

    Whoever can open the socket can ask for sums without noise: its folder should be its user's alone, and the socket is made
    with mode 0600.
    """

    def __init__(
        self,
        trainer: Trainer,
        *,
        socket: Union[str, Path, None] = None,
        address: Optional[str] = None,
        keys: Union[str, Path, None] = None,
        name: Optional[str] = None,
    ) -> None:
        if (socket is None) == (address is None) or (address is None) != (keys is None):
            raise ValueError("give either socket, or address and keys")
        conversation = Conversation(trainer, name or type(trainer).__name__)
        # Two threads: one computes, the other finds out that nobody waits any longer.
        self._server = grpc.server(futures.ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Open": grpc.unary_unary_rpc_method_handler(
                _guarded(conversation.open), wire.OpenRequest.decode, wire.OpenReply.encode
            ),
            "Compute": grpc.stream_stream_rpc_method_handler(
                _guarded_stream(conversation.compute), wire.QuestionPart.decode, wire.AnswerPart.encode
            ),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self.address = self._bind(socket, address, keys)
        """Where it listens; with a port of 0, the one that it was given."""

    def _bind(self, socket: Union[str, Path, None], address: Optional[str], keys: Union[str, Path, None]) -> str:
        if socket is not None:
            path = Path(socket).absolute()
            path.unlink(missing_ok=True)
            # gRPC makes the socket while this mask holds.
            before = os.umask(0o177)
            try:
                self._server.add_insecure_port(f"unix:{path}")
            finally:
                os.umask(before)
            return str(path)
        folder = Path(keys or "")
        key, certificate, client = (
            (folder / name).read_bytes() for name in ("trainer.key.pem", "trainer.cert.pem", "client.cert.pem")
        )
        credentials = grpc.ssl_server_credentials([(key, certificate)], client, require_client_auth=True)
        host = (address or "").rsplit(":", 1)[0]
        return f"{host}:{self._server.add_secure_port(address or '', credentials)}"

    def start(self) -> "Server":
        """Begins to listen, on threads of its own."""
        self._server.start()
        return self

    def stop(self) -> None:
        """Stops listening; a call under way is cut off."""
        self._server.stop(None).wait()


def serve(trainer: Trainer, **where: Any) -> None:
    """Listens until SIGINT or SIGTERM; `where` is as for `Server`. Call it from the main thread."""
    ended = threading.Event()

    def end(_number: int, _frame: Optional[FrameType]) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    server = Server(trainer, **where).start()
    print(f"listening at {server.address}", file=sys.stderr, flush=True)
    ended.wait()
    server.stop()


def _abort(error: BaseException, context: grpc.ServicerContext) -> None:
    if isinstance(error, Refused):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
    # Its message may quote a record: it stays here.
    traceback.print_exception(error)
    context.abort(grpc.StatusCode.INTERNAL, type(error).__name__)


def _guarded(method: Callable[[Any, Any], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(request, context)
        except Exception as error:  # noqa: BLE001: whatever it is, the client is told of it
            _abort(error, context)

    return call


def _guarded_stream(method: Callable[[Any, Any], Any]) -> Callable[[Any, grpc.ServicerContext], Any]:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        try:
            yield from method(request, context)
        except Exception as error:  # noqa: BLE001
            _abort(error, context)

    return call
