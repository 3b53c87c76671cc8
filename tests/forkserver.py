"""Processes of Python without the ten seconds that a fresh one takes to import LeRobot.

While the tests run, ``subprocess.Popen`` is the one of this module. Commands that this interpreter would run (``[sys.executable, ...]`` and the
console scripts beside it) are forked by a server, which has imported PyTorch and LeRobot and has no Python thread. The workers of pytest are forked
by it, too, and share it. The child has the arguments, directory, environment, streams, ``sys.path`` and ``__main__`` of a fresh process, finds and
imports this project itself, ends as Python ends, and its own children are made in the same way. What libraries that the server has loaded do when
a process ends is left out. LeRobot reads some variables when it is imported: each set of them has a server of its own.

A test whose subject is how Python starts (its price, what is imported, variables that PyTorch reads) is marked ``fresh_python``.
"""

import atexit
import fcntl
import gc
import importlib
import inspect
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from ctypes import CDLL, py_object, pythonapi
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

# None of these reads a variable that a test sets, and LeRobot needs them all.
THIRD_PARTY = (
    "torch", "torchvision", "pandas", "pyarrow.parquet", "pyarrow.dataset", "scipy.stats", "cv2", "av", "httpx", "aiohttp", "draccus", "deepdiff",
    "safetensors.torch", "grpc", "gymnasium", "einops", "sympy", "jsonlines", "PIL.Image", "requests", "yaml", "tqdm",
)  # fmt: skip
LEROBOT = (
    "lerobot.scripts.lerobot_train", "lerobot.scripts.lerobot_record", "lerobot.scripts.lerobot_rollout", "lerobot.scripts.lerobot_eval",
)  # fmt: skip
READ_BY_LEROBOT = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_")
READ_BY_LIBRARIES = ("LD_", "ATEN_", "OMP_", "MKL_", "OPENBLAS_", "PYTHONHASHSEED")
MESSAGE_BYTES = 150_000
DIE_WITH_THE_PARENT = 1  # prctl's PR_SET_PDEATHSIG
FLAGS = ("-P", "-u")  # of Python, which a forked process can have
FRESH = subprocess.Popen
HERE, BIN = str(Path(__file__).parent), Path(sys.executable).parent
WORKER = "PYTEST_XDIST_WORKER"  # the variable with the name of a worker, which its children have too


def named(environment: dict[str, str], beginnings: tuple[str, ...]) -> frozenset[tuple[str, str]]:
    """Variables whose names begin so."""
    return frozenset((name, value) for name, value in environment.items() if name.startswith(beginnings))


class Popen(FRESH):
    """As ``subprocess.Popen``, but forked by a server where that is the same. The process leads a session of its own.

    Attributes:
        used_s: on processors, by children that have ended and those that they had forked.
    """

    forks = True
    used_s = 0.0
    _told_s: dict[str, float] = {}  # noqa: RUF012 - what each server has said last
    server: "str | None" = None
    _connection: socket.socket | None = None

    def _execute_child(self, *values: Any) -> None:
        given = inspect.signature(super()._execute_child).bind(*values).arguments
        environment = dict(os.environ if given["env"] is None else given["env"])
        args = [given["args"]] if isinstance(given["args"], str | bytes | Path) else [os.fspath(part) for part in given["args"]]
        is_special = given["preexec_fn"] or given["pass_fds"] or given["shell"] or not self.forks or not runs_python(args)
        server = None if is_special else self.server or Forkservers.address_for(environment)
        if server is None:
            super()._execute_child(*values)
            return
        request = {
            "args": args, "cwd": os.path.abspath(given["cwd"] or "."), "env": environment,
            "ignores_sigint": signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        }  # fmt: skip
        pipes = [given[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        descriptors = [number if pipe == -1 else pipe for number, pipe in enumerate((pipes[0], pipes[3], pipes[5]))]
        self._connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection.connect(server)
        socket.send_fds(self._connection, [json.dumps(request).encode()], descriptors)
        pid, used_s = self._connection.recv(100).split()
        self.pid, self._child_created, self._address = int(pid), True, server
        self._told_s.setdefault(server, float(used_s))
        self._close_pipe_fds(*pipes)

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if self._connection is None:
            return super()._try_wait(flags)
        try:
            answer = self._connection.recv(100, socket.MSG_DONTWAIT if flags & os.WNOHANG else 0)
        except BlockingIOError:
            return 0, 0
        self._connection.close()
        if not answer:
            raise ConnectionResetError("the forkserver has ended")
        status, used_s = answer.split()
        Popen.used_s += max(0.0, float(used_s) - self._told_s[self._address])
        self._told_s[self._address] = max(float(used_s), self._told_s[self._address])
        return self.pid, int(status)

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        if self._connection is None:
            return super()._internal_poll(_deadstate)
        if self.returncode is None and self._waitpid_lock.acquire(False):
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid == self.pid:
                    self._handle_exitstatus(status)
            except OSError:
                if _deadstate is None:
                    raise
                self.returncode = _deadstate  # nobody has this object any more, and its connection was closed before it
            finally:
                self._waitpid_lock.release()
        return self.returncode


def forked_by(address: str) -> type[Popen]:
    """Whose processes come from this server, whatever their environment."""
    return type("Forked", (Popen,), {"server": address})


def runs_python(args: list[str]) -> bool:
    """Whether this interpreter runs the command: ``python [-P] [-u] -m|-c|FILE ...``, or a script that pip has installed beside it."""
    if args[0] == sys.executable:
        options = list(dropwhile(FLAGS.__contains__, args[1:]))
        return bool(options) and (options[0] in ("-m", "-c") or not options[0].startswith("-"))
    return Path(args[0]).parent == BIN and Path(args[0]).read_bytes().startswith(f"#!{sys.executable}".encode())


class Forkserver:
    """Forks children that have imported ``modules``, with these variables set.

    Args:
        parent: address of the server that forks this one; None: it is a fresh process.

    Attributes:
        beginning_s: what all have taken until they could fork.
        address: of its socket.
    """

    beginning_s = 0.0

    def __init__(self, modules: Sequence[str], environment: dict[str, str], parent: str | None = None) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="forkserver-", ignore_cleanup_errors=True)
        self.address = f"{self._directory.name}/socket"
        began = time.monotonic()
        code = f"__import__('sys').path.insert(0, {HERE!r}); __import__('forkserver').main()"  # leaves no name in __main__
        command = [sys.executable, "-c", code, self.address, parent or "", *modules]
        begin = forked_by(parent) if parent else FRESH
        self._process = begin(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)
        while not os.path.exists(self.address):
            assert self._process.poll() is None, "the forkserver did not begin"
            time.sleep(0.01)
        Forkserver.beginning_s += time.monotonic() - began

    def start(self, command: Sequence[str | Path], **settings: Any) -> Popen:
        """A process that this server forks, whatever its environment."""
        return forked_by(self.address)(command, **settings)

    def close(self) -> None:
        """End, with all children."""
        self._process.communicate()
        self._directory.cleanup()


class Forkservers:
    """Those that have imported LeRobot, one for each set of variables that it reads, all forked by one that has imported what LeRobot needs.

    Attributes:
        root: address of the latter; a worker of pytest has it from the server that has forked it.
    """

    begun: list[Forkserver] = []  # noqa: RUF012
    root: str | None = None
    addresses: dict[frozenset[tuple[str, str]], str] = {}  # noqa: RUF012
    may_begin = True

    @classmethod
    def address_for(cls, environment: dict[str, str]) -> str | None:
        """None: a fresh process it is."""
        if named(environment, READ_BY_LIBRARIES) != named(dict(os.environ), READ_BY_LIBRARIES):
            return None
        variables = named(environment, READ_BY_LEROBOT)
        if variables not in cls.addresses and cls.may_begin:
            if cls.root is None:
                cls.begun.append(Forkserver(THIRD_PARTY, dict(os.environ)))
                cls.root = cls.begun[0].address
            others = {name: value for name, value in os.environ.items() if not name.startswith(READ_BY_LEROBOT)}
            cls.begun.append(Forkserver(LEROBOT, others | dict(variables), cls.root))
            cls.addresses[variables] = cls.begun[-1].address
        return cls.addresses.get(variables)


# In the server


def main() -> None:
    """``python -c "..." ADDRESS PARENT MODULE...``: import the modules, and fork a child for each request that comes to the address."""
    address, root, *modules = sys.argv[1:]
    atexit.register(forget, imported := set())  # the first one, and so the last that is called
    for module in modules:
        importlib.import_module(module)
    imported.update(sys.modules.keys() - {"__main__"})
    request = serve(address)
    Forkservers.may_begin, Forkservers.addresses = False, {named(dict(os.environ), READ_BY_LEROBOT): address}
    Forkservers.root = root or None
    args = request.pop("args")
    become(**request)
    run_command(args)


def forget(imported: set[str]) -> None:
    """Python empties all modules when it ends. Those of the server take 0.1 s, and nothing that is a process's own hangs on them."""
    for name in imported:
        sys.modules.pop(name, None)


def serve(address: str) -> dict[str, Any]:
    """Fork a child for each request, and tell who asked its number, its end, and what all of a worker have used. Returns in the child."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{address}.new")
    listener.listen(100)
    woken, wake = os.pipe2(os.O_NONBLOCK)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    asked: dict[int, tuple[socket.socket, str]] = {}
    used_s: Counter[str] = Counter()
    server = os.getpid()
    selector = selectors.DefaultSelector()
    for source in (listener, woken, 0):
        selector.register(source, selectors.EVENT_READ)
    gc.collect()
    pythonapi.Py_IncRef(py_object(gc.get_objects()))  # never freed: no child spends time on that when it ends
    gc.freeze()
    os.rename(f"{address}.new", address)
    while True:
        ready = [key.fileobj for key, _ in selector.select()]
        if 0 in ready:  # its owner has ended
            os._exit(0)
        if woken in ready:
            os.read(woken, 1000)
            while asked and (ended := os.wait4(-1, os.WNOHANG))[0]:
                connection, worker = asked.pop(ended[0])
                used_s[worker] += ended[2].ru_utime + ended[2].ru_stime
                with connection, suppress(OSError):  # who asked may have ended
                    connection.send(f"{ended[1]} {used_s[worker]}".encode())
        if listener in ready:
            connection, _ = listener.accept()
            message, descriptors, *_ = socket.recv_fds(connection, MESSAGE_BYTES, 3)
            request = json.loads(message)
            if not (pid := fork()):
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for opened in (selector, listener, connection, *(connection for connection, _ in asked.values())):
                    opened.close()
                for descriptor in (woken, wake):
                    os.close(descriptor)
                return {**request, "descriptors": descriptors, "server": server}
            worker = request["env"].get(WORKER, "")
            asked[pid] = connection, worker
            for descriptor in descriptors:
                os.close(descriptor)
            with suppress(OSError):
                connection.send(f"{pid} {used_s[worker]}".encode())


def fork() -> int:
    """Python warns of threads: jemalloc, in pyarrow, has one, and knows what to do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def become(cwd: str, env: dict[str, str], descriptors: list[int], ignores_sigint: bool, server: int) -> None:
    """Make this process like one that was started for the command."""
    os.setsid()
    libc = CDLL(None)
    libc.prctl(DIE_WITH_THE_PARENT, signal.SIGKILL)
    # Destructors of libraries that the server has loaded take 0.2 s. They are registered by now: what comes later goes before them.
    libc.on_exit(libc._exit, None)
    libc.on_exit(libc.fcloseall, None)
    if os.getppid() != server:  # it ended before that
        os._exit(1)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    if os.isatty(0):
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))
    signal.signal(signal.SIGINT, signal.SIG_IGN if ignores_sigint else signal.default_int_handler)
    os.chdir(cwd)
    ours = {"", HERE, *os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    given = [entry for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:] = [*given, *(entry for entry in sys.path if entry not in ours)]
    os.environ.clear()
    os.environ.update(env)
    subprocess.Popen = Popen
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()  # a fresh process has numbers of its own


def run_command(args: list[str]) -> None:
    """At the outermost level, so that whatever ends the command ends the process as it would end Python."""
    if args[0] == sys.executable:
        del args[0]
    flags = list(takewhile(FLAGS.__contains__, args))
    del args[: len(flags)]
    if "-u" in flags:
        sys.stdout.reconfigure(write_through=True)
    kind = args.pop(0) if args[0] in ("-m", "-c") else ""
    what = args[0]
    if "-P" not in flags:
        sys.path.insert(0, {"-m": os.getcwd(), "-c": ""}.get(kind, os.path.dirname(os.path.realpath(what))))
    importlib.invalidate_caches()
    sys.argv[:] = args
    if kind == "-m":
        sys.modules.pop(what, None)
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv[0] = "-c"
        exec(what, sys.modules["__main__"].__dict__)
    else:
        runpy.run_path(what, run_name="__main__")
