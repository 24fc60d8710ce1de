"""A mail server that keeps what it is given."""

from __future__ import annotations

import base64
import email
import email.policy
import socketserver
import threading
from email.message import EmailMessage
from types import TracebackType
from typing import Self


class Mailbox:
    """SMTP on a free port of 127.0.0.1, with AUTH PLAIN and without TLS. Use as a context manager."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.credentials: list[str] = []
        """`user password` of every client."""
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def _handler(self) -> type[socketserver.StreamRequestHandler]:
        mailbox = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = 10

            def handle(self) -> None:
                self._say("220 mailbox")
                while words := self.rfile.readline().decode().split():
                    verb = words[0].upper()
                    if verb == "AUTH":
                        _, user, password = base64.b64decode(words[2]).decode().split("\0")
                        mailbox.credentials.append(f"{user} {password}")
                    elif verb == "DATA":
                        self._say("354 go on")
                        mailbox.mails.append(self._mail())
                    self._say(
                        {"EHLO": "250-mailbox\r\n250 AUTH PLAIN", "AUTH": "235 ok", "QUIT": "221 bye"}.get(
                            verb, "250 ok"
                        )
                    )
                    if verb == "QUIT":
                        return

            def _mail(self) -> EmailMessage:
                lines = list(iter(self.rfile.readline, b".\r\n"))
                return email.message_from_bytes(b"".join(lines), policy=email.policy.default)  # type: ignore[return-value]

            def _say(self, line: str) -> None:
                self.wfile.write(f"{line}\r\n".encode())

        return Handler
