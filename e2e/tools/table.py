"""The pinned tools: one table, and where each is looked for.

$ZEROTIDE_BIN                                         a folder that holds the programs, if set
${XDG_CACHE_HOME:-~/.cache}/zerotide/bin/TOOL/VERSION  the cache
built from source into that cache                     `e2e.tools.build`
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


class ToolError(Exception):
    """Say which tool is missing or could not be built, and what to do."""


@dataclass(frozen=True)
class Program:
    """One executable: the package that it is built from, relative to the tool's module ('.' is our own main)."""

    name: str
    package: str


@dataclass(frozen=True)
class Tool:
    """One pinned tool: its programs, links to them by other names, and how it is built."""

    name: str
    version: str
    module: str
    programs: tuple[Program, ...]
    links: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    minutes: float = 1.0

    @property
    def commands(self) -> tuple[str, ...]:
        """List every command that the tool provides."""
        return (*(program.name for program in self.programs), *self.links)


KUBERNETES_COMMANDS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
)
CONTAINERD = "github.com/containerd/containerd/v2"

TOOLS = {
    tool.name: tool
    for tool in (
        Tool(
            "etcd", "3.6.16", "go.etcd.io/etcd/server/v3", (Program("etcd", "go.etcd.io/etcd/server/v3"),), minutes=0.5
        ),
        Tool(
            "kubernetes",
            "1.37.2",
            "k8s.io/kubernetes",
            (Program("kubernetes", "."),),
            links=KUBERNETES_COMMANDS,
            variables=tuple(
                f"{package}.{name}={value}"
                for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
                for name, value in (("gitVersion", "v1.37.2"), ("gitMajor", "1"), ("gitMinor", "37"))
            ),
            minutes=8,
        ),
        Tool(
            "containerd",
            "2.4.2",
            CONTAINERD,
            tuple(
                Program(name, f"{CONTAINERD}/cmd/{name}") for name in ("containerd", "containerd-shim-runc-v2", "ctr")
            ),
            tags=("no_btrfs", "no_devmapper", "no_zfs", "no_aufs"),
            variables=(f"{CONTAINERD}/version.Version=v2.4.2",),
            minutes=1,
        ),
        Tool("coredns", "1.15.0", "github.com/coredns/coredns", (Program("coredns", "."),), minutes=2),
        Tool(
            "helm",
            "3.22.0",
            "helm.sh/helm/v3",
            (Program("helm", "helm.sh/helm/v3/cmd/helm"),),
            variables=("helm.sh/helm/v3/internal/version.version=v3.22.0",),
            minutes=2,
        ),
        # Without service discovery, which is most of it: it only checks rules here.
        Tool(
            "promtool",
            "0.315.1",
            "github.com/prometheus/prometheus",
            (Program("promtool", "github.com/prometheus/prometheus/cmd/promtool"),),
            tags=("remove_all_sd",),
            minutes=1.5,
        ),
        Tool("otelcol", "0.165.0", "go.opentelemetry.io/collector/otelcol", (Program("otelcol", "."),), minutes=1.5),
    )
}


def cache() -> Path:
    """Return the project's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zerotide"


def cached(tool: Tool) -> Path:
    """Return the tool's folder in the cache, whether it is there or not."""
    return cache() / "bin" / tool.name / tool.version


def complete(folder: Path, tool: Tool) -> bool:
    """Say whether a folder holds every command of a tool."""
    programs = [folder / command for command in tool.commands]
    return all(program.is_file() and os.access(program, os.X_OK) for program in programs)


def find(name: str) -> Path | None:
    """Return the folder that holds a tool's commands, or None when it must be built."""
    tool = TOOLS[name]
    given = os.environ.get("ZEROTIDE_BIN")
    candidates = ([Path(given), Path(given) / name / tool.version] if given else []) + [cached(tool)]
    return next((folder for folder in candidates if complete(folder, tool)), None)


def folder_of(name: str) -> Path:
    """Return the folder that holds a tool's commands. Raises ToolError when it is not there yet."""
    if (folder := find(name)) is None:
        tool = TOOLS[name]
        raise ToolError(
            f"{name} {tool.version} is not in {cached(tool)}; build it with `python3 -m e2e.tools ensure {name}`"
        )
    return folder
