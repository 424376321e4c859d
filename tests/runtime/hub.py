"""A stand-in for the Hugging Face Hub: the part of its file API that downloads use, on loopback."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote

COMMIT = "a" * 40


class Hub:
    """Serve one folder as the repository `org/tiny`; `org/private` wants the token, `org/gated` an approved one."""

    def __init__(self, folder: Path, token: str = "hf_good") -> None:
        self.folder = folder
        self.token = token
        self.fetched: list[str] = []
        self.broken = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self, body=True)

            def do_HEAD(self) -> None:
                hub.answer(self, body=False)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        """Return what HF_ENDPOINT must be."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        """Answer one request as the Hub does."""
        path = request.path.partition("?")[0]
        repository = next((name for name in ("org/tiny", "org/private", "org/gated") if name in path), None)
        known = request.headers.get("Authorization") == f"Bearer {self.token}"
        if self.broken:
            self._send(request, 500, {}, b"", body)
        elif repository is None:
            # The Hub says 401 to strangers, and 404 to those it knows.
            status, code = (404, "RepoNotFound") if request.headers.get("Authorization") else (401, "RepoNotFound")
            self._send(request, status, {"X-Error-Code": code, "X-Error-Message": "Repository not found"}, b"", body)
        elif repository == "org/private" and not known:
            self._send(request, 401, {"X-Error-Code": "RepoNotFound"}, b"", body)
        elif repository == "org/gated":
            self._send(
                request, 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}, b"", body
            )
        elif "/revision/" in path and path.rsplit("/revision/", 1)[1] not in ("main", "v1", COMMIT):
            self._send(request, 404, {"X-Error-Code": "RevisionNotFound"}, b"", body)
        elif path.startswith("/api/models/"):
            self._send(request, 200, {"Content-Type": "application/json"}, self._listing(path, repository), body)
        else:
            self._file(request, unquote(path.split("/resolve/", 1)[1].split("/", 1)[1]), body)

    def _listing(self, path: str, repository: str) -> bytes:
        files = (item for item in self.folder.rglob("*") if item.is_file())
        names = sorted(item.relative_to(self.folder).as_posix() for item in files)
        if "/tree/" in path:
            sizes = {name: (self.folder / name).stat().st_size for name in names}
            return json.dumps(
                [{"type": "file", "path": n, "size": s, "oid": "0" * 40} for n, s in sizes.items()]
            ).encode()
        siblings = [{"rfilename": name} for name in names]
        return json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings, "private": False}).encode()

    def _file(self, request: BaseHTTPRequestHandler, name: str, body: bool) -> None:
        content = (self.folder / name).read_bytes()
        if body:
            self.fetched.append(name)
        etag = hashlib.sha256(content).hexdigest()
        self._send(request, 200, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}, content, body)

    @staticmethod
    def _send(
        request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], content: bytes, body: bool
    ) -> None:
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            request.send_header(name, value)
        request.end_headers()
        if body:
            request.wfile.write(content)
