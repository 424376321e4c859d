"""Install the Debian packages that the local cluster needs, once; say clearly what is missing where that cannot be.

A package is looked for by the file that we use of it, so that other ways to install it count too. Stdlib only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from e2e.setup.alone import alone

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"

# Package -> a command, or a file, that it brings.
CLUSTER = {
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "nftables": "nft",
    "iptables": "iptables",
    "iproute2": "ip",
    "openssl": "openssl",
    "mount": "mount",
    "util-linux": "unshare",
    "gcc": "gcc",
    "libc6-dev": "/usr/include/stdlib.h",
    "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
}
IMAGES = {"mmdebstrap": "mmdebstrap", "buildah": "buildah"}
ALL = {**CLUSTER, **IMAGES}


class PackagesMissing(SystemExit):
    """Say which Debian packages are missing and why they were not installed."""


def missing(packages: dict[str, str]) -> list[str]:
    """List the packages whose file is not there."""
    path = f"{os.environ.get('PATH', '')}:{SBIN}"

    def there(needed: str) -> bool:
        return Path(needed).exists() if needed.startswith("/") else shutil.which(needed, path=path) is not None

    return [package for package, needed in packages.items() if not there(needed)]


def ensure(packages: dict[str, str] = ALL, say: Callable[[str], None] = print) -> None:
    """Install what is missing. Raises PackagesMissing where this is not a Debian-like machine, or not root."""
    if missing(packages):
        with alone():
            _install(packages, say)


def _install(packages: dict[str, str], say: Callable[[str], None]) -> None:
    wanted = missing(packages)
    if not wanted:
        return
    names = " ".join(wanted)
    if shutil.which("apt-get") is None:
        raise PackagesMissing(f"setup: this machine lacks {names}, and it has no apt-get; install them in its own way")
    if os.geteuid() != 0:
        raise PackagesMissing(f"setup: this machine lacks {names}; run this as root, or: sudo apt-get install {names}")
    started = time.monotonic()
    say(f"  Debian packages: installing {names} …")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _apt(["update", "-qq"], environment)
    _apt(["install", "-y", "-qq", "--no-install-recommends", *wanted], environment)
    still = missing({name: packages[name] for name in wanted})
    if still:
        raise PackagesMissing(f"setup: apt-get installed {names}, but {' '.join(still)} is still not usable")
    say(f"  Debian packages: installed in {time.monotonic() - started:.0f} s")


def _apt(arguments: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise PackagesMissing(f"setup: `apt-get {' '.join(arguments)}` failed:\n{(done.stderr or done.stdout)[-2000:]}")


if __name__ == "__main__":
    ensure()
    print("setup: all Debian packages are there", file=sys.stderr)
