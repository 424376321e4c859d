"""Make the cluster's certificates: one authority, one identity per component, and kubeconfigs that carry them."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.layout import API_SERVICE_ADDRESS, DOMAIN, NODE_ADDRESS, Layout
from e2e.cluster.shell import run

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650", "-sha256")
# Without a configuration of its own openssl adds the host's extensions, which make every certificate an authority.
OPENSSL_CONFIG = "[req]\ndistinguished_name=dn\n[dn]\n"


@dataclass(frozen=True)
class Identity:
    """Who a certificate names, and the addresses that it may serve on."""

    file: str
    user: str
    groups: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    authority: str = "ca"


def identities(node: str) -> list[Identity]:
    """List the certificates of a cluster with one node."""
    api_names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}")
    addresses = ("127.0.0.1", NODE_ADDRESS, API_SERVICE_ADDRESS)
    return [
        Identity("apiserver", "kube-apiserver", (), ("localhost", *api_names, *addresses)),
        Identity("apiserver-kubelet-client", "kube-apiserver-kubelet-client", ("system:masters",)),
        Identity("front-proxy-client", "front-proxy-client", authority="front-proxy-ca"),
        Identity("admin", "kubernetes-admin", ("system:masters",)),
        Identity("controller-manager", "system:kube-controller-manager"),
        Identity("scheduler", "system:kube-scheduler"),
        Identity("kubelet", f"system:node:{node}", ("system:nodes",), (node, NODE_ADDRESS)),
        Identity("proxy", "system:kube-proxy"),
        Identity("coredns", "system:coredns"),
        Identity("volumes", "system:local-volumes"),
        Identity("forwarder", "system:forwarder"),
    ]


def make(layout: Layout) -> None:
    """Make every key, certificate and kubeconfig once; do nothing when they are there."""
    done = layout.pki / "done"
    if done.exists():
        return
    layout.pki.mkdir(parents=True, exist_ok=True)
    layout.pki.chmod(0o700)
    (layout.pki / "openssl.cnf").write_text(OPENSSL_CONFIG)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: _authority(layout.pki, name), ("ca", "front-proxy-ca")))
        account = pool.submit(_service_account_key, layout.pki)
        list(pool.map(lambda identity: _certificate(layout.pki, identity), identities(layout.name)))
        account.result()
    done.touch()


def write_kubeconfigs(layout: Layout, api_port: int) -> None:
    """Write the kubeconfigs: the administrator's for outside and inside, and one for each component."""
    inside = f"https://{NODE_ADDRESS}:6443"
    layout.config.mkdir(parents=True, exist_ok=True)
    for component in ("controller-manager", "scheduler", "kubelet", "proxy", "coredns", "volumes", "forwarder"):
        _kubeconfig(layout, layout.inside(component), component, inside)
    _kubeconfig(layout, layout.inside_kubeconfig, "admin", inside)
    _kubeconfig(layout, layout.kubeconfig, "admin", f"https://127.0.0.1:{api_port}")


def _authority(pki: Path, name: str) -> None:
    config, key, out = str(pki / "openssl.cnf"), str(pki / f"{name}.key"), str(pki / f"{name}.crt")
    extensions = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    identifier = ("-addext", "subjectKeyIdentifier=hash")
    subject = ("-subj", f"/CN=zerotide-{name}")
    run(
        "openssl",
        "req",
        "-config",
        config,
        "-x509",
        *EC,
        "-keyout",
        key,
        "-out",
        out,
        *subject,
        *extensions,
        *identifier,
    )


def _certificate(pki: Path, identity: Identity) -> None:
    authority = ("-CA", str(pki / f"{identity.authority}.crt"), "-CAkey", str(pki / f"{identity.authority}.key"))
    subject = "".join(f"/O={group}" for group in identity.groups) + f"/CN={identity.user}"
    usage = "clientAuth" + (",serverAuth" if identity.names else "")
    extensions = ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"extendedKeyUsage={usage}"]
    if identity.names:
        names = ",".join(f"{'IP' if name[0].isdigit() else 'DNS'}:{name}" for name in identity.names)
        extensions += ["-addext", f"subjectAltName={names}"]
    files = ("-keyout", str(pki / f"{identity.file}.key"), "-out", str(pki / f"{identity.file}.crt"))
    config = str(pki / "openssl.cnf")
    run("openssl", "req", "-config", config, "-x509", *authority, *EC, *files, "-subj", subject, *extensions)


def _service_account_key(pki: Path) -> None:
    run("openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", str(pki / "sa.key"))
    run("openssl", "ec", "-in", str(pki / "sa.key"), "-pubout", "-out", str(pki / "sa.pub"))


def _kubeconfig(layout: Layout, path: Path, identity: str, server: str) -> None:
    def data(file: str) -> str:
        return base64.b64encode((layout.pki / file).read_bytes()).decode()

    user = {"client-certificate-data": data(f"{identity}.crt"), "client-key-data": data(f"{identity}.key")}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": layout.name, "cluster": {"server": server, "certificate-authority-data": data("ca.crt")}}
        ],
        "users": [{"name": identity, "user": user}],
        "contexts": [{"name": layout.name, "context": {"cluster": layout.name, "user": identity}}],
        "current-context": layout.name,
    }
    # JSON is YAML; a private key is for its owner only.
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1) + "\n")
