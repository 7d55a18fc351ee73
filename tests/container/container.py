"""Runs the gateway's image as a container: in namespaces of its own for users, mounts, processes and IPC, as who and what
the image says, with a root that cannot be written, without capabilities, and with no files but the image's own and those
given. The network is the machine's: what the gateway calls in tests lies on loopback."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

# Root and everybody else in a container are nobody on the machine.
FIRST_ID, IDS = 100_000, 65_536
CONFIG = "/etc/portcullis"
# What engines give to every container: names of the machine's.
NAMES = [path for path in ("/etc/hosts", "/etc/resolv.conf") if os.path.exists(path)]


class Image:
    """An image, from the folder of its OCI layout."""

    def __init__(self, layout):
        self.layout = Path(layout)
        index = json.loads((self.layout / "index.json").read_text())
        described = index["manifests"][0]
        self.tag = described["annotations"]["org.opencontainers.image.ref.name"]
        manifest = self.blob(described)
        self.layers = manifest["layers"]
        self.config = self.blob(manifest["config"])["config"]

    def blob(self, described):
        return json.loads((self.layout / "blobs" / described["digest"].replace(":", "/")).read_text())

    def unpack(self, bundle):
        """Makes a bundle of it: `rootfs`, and what is to be run there."""
        ids = f"0:{FIRST_ID}:{IDS}"
        image = f"{self.layout}:{self.tag}"
        command = ["umoci", "unpack", "--uid-map", ids, "--gid-map", ids, "--image", image, bundle]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        bundle.chmod(0o711)
        return json.loads((bundle / "config.json").read_text())


class Container:
    """A run of an image. `config` is a folder that is seen at /etc/portcullis. `arguments`, where they are given, stand in
    the place of the image's command."""

    def __init__(self, image, config=None, environment=(), arguments=None):
        self.folder = Path(tempfile.mkdtemp(prefix="portcullis-container-"))
        self.folder.chmod(0o711)
        self.name = self.folder.name
        self.bundle = self.folder / "bundle"
        self.made = image.unpack(self.bundle)
        self.root = self.bundle / "rootfs"
        self.user = image.config["User"].split(":")
        self.command = image.config["Entrypoint"] + (image.config["Cmd"] if arguments is None else arguments)
        self.variables = self.made["process"]["env"] + list(environment)
        self.mounts = [(path, path) for path in NAMES]
        if config:
            self.mounts.append((str(self.given(config)), CONFIG))

    def given(self, config):
        """A copy that the container's user, and nobody else there, can read."""
        copy = self.folder / "config"
        shutil.copytree(config, copy)
        for path in (copy, *copy.rglob("*")):
            os.chown(path, FIRST_ID + int(self.user[0]), FIRST_ID + int(self.user[1]))
        return copy

    def start(self, runtime, **streams):
        self.runtime = runtime
        self.running = runtime.start(self, streams)
        return self.running

    def process(self):
        """The ID of its first process on the machine, once it runs."""
        return self.runtime.process(self)

    def end(self):
        """Tells its first process to end, as engines do."""
        os.kill(self.process(), signal.SIGTERM)

    def remove(self):
        self.runtime.remove(self)
        shutil.rmtree(self.folder)


class Oci:
    """A runtime that takes bundles."""

    def __init__(self, name, *flags):
        self.name = name
        self.flags = flags

    def asked(self, container, *command):
        return [self.name, "--root", str(container.folder / "state"), *self.flags, *command]

    def start(self, container, streams):
        (container.bundle / "config.json").write_text(json.dumps(specification(container)))
        command = self.asked(container, "run", "--bundle", str(container.bundle), container.name)
        return subprocess.Popen(command, **streams)

    def process(self, container):
        state = subprocess.run(self.asked(container, "state", container.name), check=True, stdout=subprocess.PIPE)
        return json.loads(state.stdout)["pid"]

    def remove(self, container):
        # It may have ended, and been removed, by itself.
        command = self.asked(container, "delete", "--force", container.name)
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def specification(container):
    """What umoci made of the image, with less of everything. What it gives by default and the image does not ask for goes:
    capabilities, mounts but /proc and /dev, a network of its own, limits."""
    made = container.made
    made["process"] |= {
        "terminal": False,
        "args": container.command,
        "env": container.variables,
        "capabilities": {kind: [] for kind in made["process"]["capabilities"]},
        "rlimits": [],
        "noNewPrivileges": True,
    }
    made["root"]["readonly"] = True
    made.pop("hostname", None)
    # Devices are null, random and their like.
    made["mounts"] = [mount for mount in made["mounts"] if mount["destination"] in ("/proc", "/dev")]
    for source, at in container.mounts:
        options = ["rbind", "ro", "nosuid", "nodev", "noexec"]
        made["mounts"].append({"destination": at, "type": "bind", "source": source, "options": options})
    made["linux"].pop("resources", None)
    made["linux"]["namespaces"] = [{"type": kind} for kind in ("user", "mount", "pid", "ipc")]
    return made


class Bubblewrap:
    """Needs nothing but namespaces. It takes the command, the user and the environment alone from the image."""

    name = "bwrap"

    def start(self, container, streams):
        # Where something is mounted there must be something; the others see to that themselves.
        for source, at in [("/proc", "/proc"), ("/dev", "/dev"), *container.mounts]:
            place = container.root / at.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.mkdir(exist_ok=True) if os.path.isdir(source) else place.touch()
        self.told, tell = os.pipe()
        user, group = container.user
        command = [
            *("setpriv", f"--reuid={FIRST_ID + int(user)}", f"--regid={FIRST_ID + int(group)}", "--clear-groups"),
            *("bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--uid", user, "--gid", group),
            *("--as-pid-1", "--die-with-parent", "--cap-drop", "ALL", "--info-fd", str(tell)),
            *("--ro-bind", str(container.root), "/", "--proc", "/proc", "--dev", "/dev"),
            *(part for source, at in container.mounts for part in ("--ro-bind", source, at)),
            "--clearenv",
            *(part for variable in container.variables for part in ("--setenv", *variable.split("=", 1))),
            *("--", *container.command),
        ]
        running = subprocess.Popen(command, pass_fds=[tell], **streams)
        os.close(tell)
        return running

    def process(self, container):
        if not hasattr(container, "first"):
            with os.fdopen(self.told) as told:
                container.first = json.load(told)["child-pid"]
        return container.first

    def remove(self, container):
        container.running.kill()
        container.running.wait()


# In this order; crun can do without cgroups.
RUNTIMES = [Oci("runc"), Oci("crun", "--cgroup-manager=disabled"), Bubblewrap()]


def runtime(image):
    """The first runtime that can run the image here, or the one that CONTAINER_RUNTIME names."""
    asked = os.environ.get("CONTAINER_RUNTIME")
    said = []
    for one in RUNTIMES:
        if asked in (None, "", one.name):
            container = Container(image, arguments=["--version"])
            running = container.start(one, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            output, _ = running.communicate(timeout=60)
            container.remove()
            if running.returncode == 0 and output.startswith("portcullis "):
                return one
            said.append(f"{one.name}: {output}")
    raise RuntimeError("nothing here runs a container:\n" + "\n".join(said))
