"""A server that is nobody's replica, at the address that the policy allows: it answers with what it was asked."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster import Cluster
from e2e.cluster.layout import Layout
from e2e.harness import Json, System
from e2e.install import ABROAD

SERVE = """
import http.server, json, ssl

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        told = json.dumps({"path": self.path, "model": asked["model"], "headers": dict(self.headers)}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

server = http.server.ThreadingHTTPServer(("", 8443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
NAME = "abroad"


def certificate(pki: Path, host: str, folder: Path) -> dict[str, bytes]:
    """Return a certificate for a host by a cluster's authority, with its key, as a Secret holds them."""
    made = folder / "tls.key", folder / "tls.crt"
    signed = ("-CA", str(pki / "ca.crt"), "-CAkey", str(pki / "ca.key"), "-config", str(pki / "openssl.cnf"))
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-sha256")
    command = ["openssl", "req", "-x509", *signed, *kind, "-subj", f"/CN={NAME}"]
    command += ["-addext", f"subjectAltName=DNS:{host}", "-keyout", str(made[0]), "-out", str(made[1])]
    subprocess.run(command, check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in made}


@contextmanager
def serving(system: System, cluster: Cluster, namespace: str, folder: Path) -> Iterator[str]:
    """Have the server run in a namespace; yield its host."""
    host = f"{NAME}.{namespace}.svc"
    metadata = {"namespace": namespace, "name": NAME, "labels": {"app": NAME}}
    made = certificate(Layout.of(cluster.name).pki, host, folder)
    data = {name: base64.b64encode(text).decode() for name, text in made.items()}
    container: Json = {
        "name": "server",
        "image": "zerotide/operator:dev",
        "imagePullPolicy": "Never",
        "command": ["python3", "/srv/serve.py"],
        "readinessProbe": {"tcpSocket": {"port": 8443}, "periodSeconds": 1},
        "volumeMounts": [{"name": "srv", "mountPath": "/srv"}, {"name": "tls", "mountPath": "/tls"}],
    }
    volumes = [{"name": "srv", "configMap": {"name": NAME}}, {"name": "tls", "secret": {"secretName": NAME}}]
    core = {"apiVersion": "v1", "metadata": metadata}
    system.apply({**core, "kind": "ConfigMap", "data": {"serve.py": SERVE}})
    system.apply({**core, "kind": "Secret", "type": "kubernetes.io/tls", "data": data})
    system.apply({**core, "kind": "Pod", "spec": {"containers": [container], "volumes": volumes}})
    ports = [{"port": 443, "targetPort": 8443}]
    spec = {"clusterIP": ABROAD, "selector": {"app": NAME}, "ports": ports}
    system.apply({**core, "kind": "Service", "spec": spec})
    try:
        system.kubectl("wait", "pod", NAME, "-n", namespace, "--for=condition=Ready", "--timeout=60s")
        yield host
    finally:
        # The next one has the same address.
        system.kubectl("delete", "service", NAME, "-n", namespace)
