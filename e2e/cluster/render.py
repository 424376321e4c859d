"""Render the configuration files of the components. Pure, but for `write`, which puts them in their folder."""

from __future__ import annotations

import json
from typing import Any

from e2e.cluster.layout import DNS_SERVICE_ADDRESS, DOMAIN, NODE_ADDRESS, POD_RANGE, Layout

CNI_PLUGINS = "/usr/lib/cni"
PAUSE_IMAGE = "localhost/zerotide/pause:1"


def kubelet(layout: Layout) -> dict[str, Any]:
    """Render the kubelet's configuration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "0.0.0.0",
        "tlsCertFile": str(layout.pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "kubelet.key"),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{layout.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [DNS_SERVICE_ADDRESS],
        "clusterDomain": DOMAIN,
        # The host's name server cannot be reached from inside, so pods inherit none.
        "resolvConf": str(layout.config / "empty-resolv.conf"),
        "podLogsDir": str(layout.root / "pod-logs"),
        "volumePluginDir": str(layout.root / "volume-plugins"),
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "serializeImagePulls": False,
        "maxPods": 250,
        "logging": {"verbosity": 2},
    }


def kube_proxy(layout: Layout) -> dict[str, Any]:
    """Render kube-proxy's configuration; the conntrack limits belong to the host and are left alone."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(layout.inside("proxy"))},
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": layout.name,
        "bindAddress": "0.0.0.0",
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nftables": {"minSyncPeriod": "100ms"},
    }


def cni(layout: Layout) -> dict[str, Any]:
    """Render the pod network: one bridge, addresses leased in a folder of this cluster."""
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods0",
                "isGateway": True,
                "hairpinMode": True,
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": POD_RANGE}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": str(layout.run / "addresses"),
                },
            }
        ],
    }


def containerd(layout: Layout) -> str:
    """Render containerd's configuration."""
    return f"""version = 3
root = "{layout.root}/containerd"
state = "{layout.run}/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing"]

[grpc]
  address = "{layout.containerd_socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{layout.root}/opt"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
  # Without CAP_SYS_RESOURCE the score of the host's own processes cannot be undercut.
  restrict_oom_score_adj = true
  disable_apparmor = true

[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{CNI_PLUGINS}"]
  conf_dir = "{layout.config}/cni"
  use_internal_loopback = true

[plugins."io.containerd.cri.v1.runtime".containerd]
  default_runtime_name = "runc"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = false
"""


def corefile(layout: Layout) -> str:
    """Render CoreDNS's configuration: the cluster's names, and nothing beyond them."""
    return f""".:53 {{
    errors
    health {NODE_ADDRESS}:8080
    ready {NODE_ADDRESS}:8181
    kubernetes {DOMAIN} in-addr.arpa {{
        kubeconfig {layout.inside("coredns")}
        pods insecure
        ttl 5
    }}
    cache 5
    loadbalance
}}
"""


def write(layout: Layout) -> None:
    """Write every configuration file."""
    folder = layout.config
    (folder / "cni").mkdir(parents=True, exist_ok=True)
    (folder / "empty-resolv.conf").write_text("")
    search = f"search default.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}\noptions ndots:5\n"
    (folder / "resolv.conf").write_text(f"nameserver {DNS_SERVICE_ADDRESS}\n{search}")
    (folder / "kubelet.yaml").write_text(json.dumps(kubelet(layout), indent=1))
    (folder / "kube-proxy.yaml").write_text(json.dumps(kube_proxy(layout), indent=1))
    (folder / "cni" / "10-pods.conflist").write_text(json.dumps(cni(layout), indent=1))
    (folder / "containerd.toml").write_text(containerd(layout))
    (folder / "Corefile").write_text(corefile(layout))
