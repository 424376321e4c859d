"""HAProxy and nginx before the backend: one process, one thread, connections to the backend kept alive."""

from __future__ import annotations

import shutil
from pathlib import Path

from e2e.setup.debian import SBIN

HAPROXY = """
global
    nbthread 1
    maxconn 4000
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    http-reuse always
frontend in
    bind 127.0.0.1:{port}
    default_backend out
backend out
    server model {address}:{backend} maxconn 4000 pool-max-conn 2000
"""

NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
worker_rlimit_nofile 20000;
events {{ worker_connections 10000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-1;
    uwsgi_temp_path {folder}/nginx-2;
    scgi_temp_path {folder}/nginx-3;
    upstream model {{
        server {address}:{backend};
        keepalive 2000;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://model;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"""


def haproxy(folder: Path, port: int, address: str, backend: int) -> list[str]:
    """Write HAProxy's configuration and return its command line."""
    file = folder / "haproxy.cfg"
    file.write_text(HAPROXY.format(port=port, address=address, backend=backend))
    return [_program("haproxy"), "-db", "-f", str(file)]


def nginx(folder: Path, port: int, address: str, backend: int) -> list[str]:
    """Write nginx's configuration and return its command line."""
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=folder, port=port, address=address, backend=backend))
    return [_program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(file)]


def _program(name: str) -> str:
    return shutil.which(name, path=f"{SBIN}:/usr/bin:/bin") or name
