"""What the code never does, read off its syntax tree: nothing that comes from outside is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted(
    path
    for package in ("mmeval", "modalities", "degradations")
    for path in (REPOSITORY / package).rglob("*.py")
)
#: Modules that turn bytes from outside into code, or run programs.
FORBIDDEN_MODULES = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"),
    *("jsonpickle", "code", "codeop", "pty", "pdb", "xmlrpc", "telnetlib", "ftplib", "smtplib"),
}
#: Modules that speak to other machines or programs, and the files that may use each.
NETWORK: dict[str, set[str]] = {
    "httpx2": {"mmeval/models/openai.py", "mmeval/models/bare.py"},
    "huggingface_hub": {"mmeval/benchmarks/arrow.py"},  # where a specification says `hub:`
    "ray": {"mmeval/running/cluster.py"},  # where a configuration says `executor: ray`
    # The machine's own name in the lock; the cluster; a pair between two processes; the viewer.
    "socket": {
        "mmeval/store.py",
        *("mmeval/running/cluster.py", "mmeval/running/workers.py", "mmeval/viewer/server.py"),
    },
    "webbrowser": {"mmeval/viewer/server.py"},
    **{name: set() for name in ("httpx", "requests", "urllib3", "aiohttp", "websockets")},
    **{name: set() for name in ("paramiko", "boto3", "fsspec", "urllib.request")},
}
#: Unpacking of archives, and XML with entities: nothing does it.
UNPACKING = {"tarfile", "zipfile", "xml", "lxml"}
FORBIDDEN_CALLS = {
    *("eval", "exec", "compile", "__import__", "breakpoint", "input"),
    *("os.system", "os.popen", "os.spawnl", "os.spawnv", "os.execv", "os.execvp", "pty.spawn"),
    *("yaml.load", "yaml.full_load", "yaml.unsafe_load", "yaml.load_all", "yaml.unsafe_load_all"),
    *("tempfile.mktemp", "shutil.unpack_archive", "os.chmod", "os.umask"),
    *("pandas.read_pickle", "pd.read_pickle", "torch.hub.load"),
}


class Module:
    """A file's tree, its imports under the names that it gives them."""

    def __init__(self, text: str) -> None:
        self.nodes = list(ast.walk(ast.parse(text)))
        self.names: dict[str, str] = {}
        self.imported: set[str] = set()
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.imported.add(alias.name)
                    self.names[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                self.imported.add(node.module)
                for alias in node.names:
                    self.names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                    self.imported.add(f"{node.module}.{alias.name}")

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Full name, such as ``os.path.join``, and node of every call by name."""
        for node in self.nodes:
            if isinstance(node, ast.Call):
                parts: list[str] = []
                place: ast.expr = node.func
                while isinstance(place, ast.Attribute):
                    parts.append(place.attr)
                    place = place.value
                if isinstance(place, ast.Name):
                    known = self.names.get(place.id, place.id)
                    yield ".".join([known, *reversed(parts)]), node
                else:
                    yield ".".join(["", *reversed(parts)]), node


def value(call: ast.Call, keyword: str) -> ast.expr | None:
    return next((each.value for each in call.keywords if each.arg == keyword), None)


def is_constant(node: ast.expr | None, *allowed: object) -> bool:
    return isinstance(node, ast.Constant) and any(node.value is each for each in allowed)


def faults(text: str, file: str = "mmeval/any.py") -> list[str]:
    """What a module's text does that it must not."""
    module = Module(text)
    found = []
    for name in sorted(module.imported):
        top = name.partition(".")[0]
        if top in FORBIDDEN_MODULES or top in UNPACKING:
            found.append(f"imports {name}")
        for key in (name, top):
            if key in NETWORK and file not in NETWORK[key]:
                found.append(f"imports {name}")
                break
    for name, call in module.calls():
        if name in FORBIDDEN_CALLS or name.startswith("builtins."):
            found.append(f"calls {name}")
        if name.startswith("subprocess."):
            literal = call.args and isinstance(call.args[0], ast.List)
            if not literal or (
                not is_constant(value(call, "shell"), False) and value(call, "shell")
            ):
                found.append(f"calls {name} with a shell, or with what is no list of words")
        if name == "torch.load" and not is_constant(value(call, "weights_only"), True):
            found.append("calls torch.load without weights_only=True")
        if name.endswith(("np.load", "numpy.load")) and not is_constant(
            value(call, "allow_pickle"), None, False
        ):
            found += ["calls numpy.load with pickles"] if value(call, "allow_pickle") else []
        trust = value(call, "trust_remote_code")
        if trust is not None and not is_constant(trust, False):
            found.append(f"calls {name} with trust_remote_code")
        if is_constant(value(call, "verify"), False):
            found.append(f"calls {name} without verifying certificates")
        engine = name.startswith("jinja2") and name.endswith("Environment")
        if engine and not is_constant(value(call, "autoescape"), True):
            found.append("makes a template engine that does not escape")
        if is_constant(value(call, "follow_redirects"), True):
            found.append(f"calls {name} that follows redirects")
    for node in module.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = node.args
            named = [*arguments.posonlyargs, *arguments.args]
            defaults = dict(zip(reversed([a.arg for a in named]), reversed(arguments.defaults),
                                strict=False))  # fmt: skip
            defaults |= {
                a.arg: d
                for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
                if d is not None
            }
            for name in ("trust_remote_code", "allow_remote", "allow_burned_in"):
                if name in defaults and not is_constant(defaults[name], False):
                    found.append(f"{node.name}({name}) is not off by default")
    return found


def test_there_is_code_to_read() -> None:
    assert len(FILES) > 100


@pytest.mark.parametrize("package", ["mmeval", "modalities", "degradations"])
def test_nothing_from_outside_is_run_and_nothing_is_fetched(package: str) -> None:
    wrong = {}
    for path in FILES:
        file = path.relative_to(REPOSITORY).as_posix()
        if file.startswith(f"{package}/") and (bad := faults(path.read_text("utf-8"), file)):
            wrong[file] = bad
    assert wrong == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "import xml.etree.ElementTree as e",
        "import tarfile",
        "import urllib.request",
        "from urllib import request",
        "import requests",
        "import socket",
        "eval('1')",
        "exec(x)",
        "from yaml import load\nload(x)",
        "import yaml\nyaml.load(x, yaml.SafeLoader)",
        "import yaml as y\ny.unsafe_load(x)",
        "import os\nos.system('x')",
        "import subprocess\nsubprocess.run('x', shell=True)",
        "import subprocess as s\ns.run(['x'], shell=yes)",
        "from subprocess import run\nrun(words)",
        "import torch\ntorch.load(x)",
        "import torch\ntorch.load(x, weights_only=False)",
        "import numpy as np\nnp.load(x, allow_pickle=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=True)",
        "def f(trust_remote_code=True): ...",
        "def f(*, allow_remote=True): ...",
        "import jinja2\njinja2.Environment()",
        "client.get(x, verify=False)",
        "client.get(x, follow_redirects=True)",
    ],
)
def test_each_of_these_would_be_found(text: str) -> None:
    assert faults(text)


def test_what_is_allowed_is_not_taken_for_wrong() -> None:
    assert faults("import subprocess\nsubprocess.run(['git', x], shell=False)") == []
    assert (
        faults("import torch\ntorch.load(x, weights_only=True)\nmodel.eval()\nre.compile(x)") == []
    )
    assert faults("import yaml\nyaml.safe_load(x)\nimport urllib.parse") == []
