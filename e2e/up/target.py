"""Which cluster is meant, with which programs it is talked to, and what a shell needs to do the same."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import Cluster
from e2e.cluster.cluster import DEFAULT_NAME
from e2e.tools import folder_of
from e2e.tools.build import ensure

ROOT = Path(__file__).resolve().parents[2]
CLUSTER_VARIABLE = "ZEROTIDE_CLUSTER"
VENV = ROOT / ".venv/bin"


@dataclass(frozen=True)
class Target:
    """A cluster: our own local one, or one that KUBECONFIG names (`local` is None)."""

    local: Cluster | None
    kubeconfig: str

    @property
    def name(self) -> str:
        """Return what the cluster is called on the screen."""
        return (
            f"the local cluster {self.local.name!r}" if self.local else f"the cluster of KUBECONFIG={self.kubeconfig}"
        )

    @property
    def gateway(self) -> str:
        """Return the gateway's address from here; empty when only a port forward leads to it."""
        return self.local.gateway_url if self.local and self.local.running else ""

    @property
    def state(self) -> Path:
        """Return the folder of what `make up` keeps about this cluster in the checkout."""
        return ROOT / ".zerotide" / (self.local.name if self.local else "kubeconfig")

    @property
    def key_file(self) -> Path:
        """Return where the API key of `make up` is kept."""
        return self.state / "api-key"

    def exports(self) -> dict[str, str]:
        """Return the variables that a shell needs, PATH aside."""
        wanted = {"KUBECONFIG": self.kubeconfig, "ZEROTIDE_GATEWAY": self.gateway}
        if self.key_file.exists():
            wanted["ZEROTIDE_API_KEY"] = self.key_file.read_text().strip()
        return {name: value for name, value in wanted.items() if value}

    def environment(self) -> dict[str, str]:
        """Return the environment of programs that are run against the cluster."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ZEROTIDE_")}
        return {**inherited, **self.exports(), "PATH": f"{self.state / 'bin'}:{os.environ.get('PATH', '')}"}


def choose(environment: dict[str, str] | None = None) -> Target:
    """Return the cluster that is meant: that of KUBECONFIG unless this is unset or names our own."""
    environment = dict(os.environ) if environment is None else environment
    given = environment.get("KUBECONFIG", "")
    local = Cluster(environment.get(CLUSTER_VARIABLE) or DEFAULT_NAME)
    if not given or Path(given) == local.kubeconfig:
        return Target(local, str(local.kubeconfig))
    return Target(None, given)


def link_programs(target: Target, say: Callable[[str], None] = print) -> None:
    """Put kubectl, helm and zerotide, and nothing else, into one folder for PATH; fetch or build what is missing."""
    folder = target.state / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    links = {name: VENV / name for name in ("zerotide", "kubectl-zerotide")}
    for command, tool in (("kubectl", "kubernetes"), ("helm", "helm")):
        # With a cluster of the user's own, so are its programs, where there are any.
        own = None if target.local else shutil.which(command)
        if own is None:
            ensure([tool], say)
        links[command] = Path(own) if own else folder_of(tool) / command
    for name, program in links.items():
        link = folder / name
        if not link.is_symlink() or link.readlink() != program:
            link.unlink(missing_ok=True)
            link.symlink_to(program)


def shell_exports(target: Target) -> str:
    """Return what `eval "$(make -s env)"` runs: PATH with our folder once, and the variables."""
    folder = shlex.quote(str(target.state / "bin"))
    lines = [f'case ":$PATH:" in *:{folder}:*) ;; *) export PATH={folder}:"$PATH" ;; esac']
    lines += [f"export {name}={shlex.quote(value)}" for name, value in target.exports().items()]
    return "\n".join(lines)
