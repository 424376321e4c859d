"""A small provisioner: a folder on the node for every claim of the default storage class.

It waits for the scheduler to choose the node, makes the folder and a `local` PersistentVolume for it (so that the
kubelet gives it to the pod's fsGroup), and removes both when the claim is gone.
"""

from __future__ import annotations

import http.client
import shutil
import sys
import threading
import time
from pathlib import Path

from e2e.cluster.addons import PROVISIONER
from e2e.cluster.errors import ApiError
from e2e.cluster.kube import Json, Kube
from e2e.cluster.layout import Layout

SELECTED_NODE = "volume.kubernetes.io/selected-node"
STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
VOLUMES = "/api/v1/persistentvolumes"
CLAIMS = "/api/v1/persistentvolumeclaims"


def wants_volume(claim: Json) -> bool:
    """Say whether a claim is ours to serve, now."""
    annotations = claim["metadata"].get("annotations") or {}
    ours = annotations.get(STORAGE_PROVISIONER) == PROVISIONER
    return ours and SELECTED_NODE in annotations and not claim["spec"].get("volumeName")


def volume_for(claim: Json, folder: Path) -> Json:
    """Render the volume of a claim."""
    metadata, spec = claim["metadata"], claim["spec"]
    node = metadata["annotations"][SELECTED_NODE]
    reference = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": metadata["name"]}
    host = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"pvc-{metadata['uid']}", "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": spec["storageClassName"],
            "claimRef": {**reference, "namespace": metadata["namespace"], "uid": metadata["uid"]},
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}},
        },
    }


def is_abandoned(volume: Json) -> bool:
    """Say whether a volume is ours and its claim is gone."""
    annotations = volume["metadata"].get("annotations") or {}
    released = (volume.get("status") or {}).get("phase") in ("Released", "Failed")
    return released and annotations.get(PROVISIONED_BY) == PROVISIONER


class Provisioner:
    """Follow claims and volumes and act on each."""

    def __init__(self, client: Kube, folder: Path) -> None:
        self._client = client
        self._folder = folder

    def provide(self, claim: Json) -> None:
        """Make the folder and the volume of a claim, once."""
        if not wants_volume(claim):
            return
        folder = self._folder / f"pvc-{claim['metadata']['uid']}"
        folder.mkdir(parents=True, exist_ok=True)
        # Whoever the pod runs as may write, as with the local provisioners of other small clusters.
        folder.chmod(0o777)
        try:
            self._client.call("POST", VOLUMES, volume_for(claim, folder))
        except ApiError as error:
            if error.status != 409:
                raise
        print(f"{claim['metadata']['namespace']}/{claim['metadata']['name']}: {folder}", flush=True)

    def reclaim(self, volume: Json) -> None:
        """Remove a volume whose claim is gone, and its folder."""
        if is_abandoned(volume):
            shutil.rmtree(volume["spec"]["local"]["path"], ignore_errors=True)
            self._client.delete(f"{VOLUMES}/{volume['metadata']['name']}")
            print(f"{volume['metadata']['name']}: removed", flush=True)

    def follow_claims(self) -> None:
        """Serve claims until the watch ends."""
        for kind, claim in self._client.follow(CLAIMS):
            if kind != "DELETED":
                self.provide(claim)

    def follow_volumes(self) -> None:
        """Reclaim volumes until the watch ends."""
        for kind, volume in self._client.follow(VOLUMES):
            if kind != "DELETED":
                self.reclaim(volume)


def main(name: str) -> None:
    """Provision for ever."""
    layout = Layout.of(name)
    provisioner = Provisioner(Kube(layout.inside("volumes")), layout.volumes)

    def forever(step: str) -> None:
        while True:
            try:
                getattr(provisioner, step)()
            except (OSError, ApiError, http.client.HTTPException) as error:
                print(f"{step}: {error}", flush=True)
                time.sleep(1)

    threads = [threading.Thread(target=forever, args=(step,)) for step in ("follow_claims", "follow_volumes")]
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    main(sys.argv[1])
