"""A small Hugging Face Hub on this machine: as much of its HTTP API as pushing and pulling models and datasets uses.

``HubServer`` is the server. Run as a script, this file is a client: ``python hub_server.py MODULE FLAGS`` runs a Python module with
every request of ``huggingface_hub`` sent to HF_ENDPOINT, also those whose address is written out in its source (the model card's check).

Left out on purpose: git-LFS and xet (every file travels inside the commit, as small files do on the real Hub), branches.
A dataset is a repository whose id here begins with ``datasets/``.
"""

import base64
import hashlib
import json
import os
import runpy
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_test"
Answer = tuple[int, bytes, dict[str, str]]


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class HubServer:
    """Repositories in memory, served on a free port of the loopback interface while the ``with`` block runs.

    Attributes:
        repositories: repository id -> file name -> content. Tests write to it directly.
        tags: repository id and tag -> repository id whose files are those of the tag. A tag that a client makes names main.
        commits: repository id and message, in the order pushed.
        requests: ``METHOD /path`` of everything asked.
        unknown: the requests that no part of this server answers.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.tags: dict[tuple[str, str], str] = {}
        self.commits: list[tuple[str, str]] = []
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self.lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def add(self, repository: str, directory: Path) -> None:
        """Publish a directory's files."""
        self.repositories[repository] = {path.name: path.read_bytes() for path in directory.iterdir()}

    def revision(self, repository: str) -> str:
        """The commit that is called ``main``: a hash of all files."""
        files = self.repositories[repository]
        return hashlib.sha1(repr([(name, git_hash(files[name])) for name in sorted(files)]).encode()).hexdigest()

    def answer(self, method: str, path: str, body: bytes, token: str | None) -> Answer:
        parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
        with self.lock:
            self.requests.append(f"{method} {path}")
            match parts:
                case ["api", "validate-yaml"]:
                    return _validate_card(json.loads(body)["content"])
                case ["api", *_] if token != TOKEN:
                    return _error(401, "", "Invalid username or password.")
                case ["api", "whoami-v2"]:
                    return _json({"type": "user", "name": "me", "orgs": [], "auth": {"type": "access_token"}})
                case ["api", "repos", "create"]:
                    return self._create(json.loads(body))
                case ["api", "models", owner, name, *rest]:
                    return self._model(method, f"{owner}/{name}", rest, body) or self._refuse(method, path)
                case ["api", "datasets", owner, name, *rest]:
                    return self._model(method, f"datasets/{owner}/{name}", rest, body) or self._refuse(method, path)
                case ["datasets", owner, name, "resolve", revision, *file]:
                    return self._file(f"datasets/{owner}/{name}", revision, "/".join(file))
                case [owner, name, "resolve", revision, *file]:
                    return self._file(f"{owner}/{name}", revision, "/".join(file))
            return self._refuse(method, path)

    def _refuse(self, method: str, path: str) -> Answer:
        self.unknown.append(f"{method} {path}")
        return _error(404, "", "Not part of this server.")

    def _create(self, wish: dict[str, str]) -> Answer:
        repository = f"{wish['organization'] or 'me'}/{wish['name']}"
        if wish.get("type") == "dataset":
            repository = f"datasets/{repository}"
        answer = {"url": f"{self.endpoint}/{repository}", "name": repository}
        if repository in self.repositories:
            return _json({**answer, "error": "You already created this model repo"}, 409)
        self.repositories[repository] = {}
        return _json(answer)

    def _model(self, method: str, repository: str, rest: list[str], body: bytes) -> Answer | None:
        """What is asked of one repository; None: not known here."""
        if repository not in self.repositories:
            return _error(404, "RepoNotFound", "Repository not found")
        files = self.repositories[repository]
        match method, rest:
            case "POST", ["preupload", "main"]:
                asked = [file["path"] for file in json.loads(body)["files"]]
                old = {name: git_hash(content) for name, content in files.items()}
                modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False, "oid": old.get(name)} for name in asked]
                return _json({"files": modes})
            case "POST", ["commit", "main"]:
                return self._commit(repository, [json.loads(line) for line in body.splitlines()])
            case "POST", ["tag", "main"]:
                self.tags[repository, json.loads(body)["tag"]] = repository
                return _json({})
            case "DELETE", ["tag", tag]:
                known = self.tags.pop((repository, tag), None)
                return _json({}) if known else _error(404, "RevisionNotFound", "Invalid rev id")
            case "GET", ["refs"]:
                names = [tag for of, tag in self.tags if of == repository]
                tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": self.revision(repository)} for tag in names]
                return _json({"branches": [], "tags": tags, "converts": []})
            case "GET", [] | ["revision", "main"]:
                return self._facts(repository)
            case "GET", ["revision", revision] if (
                revision == self.revision(repository) or self.tags.get((repository, revision)) == repository
            ):
                return self._facts(repository)
            case "GET", ["revision", _]:
                return _error(404, "RevisionNotFound", "Invalid rev id")
            case "GET", ["tree", revision] if revision in ("main", self.revision(repository)):
                found = sorted(files.items())
                return _json([{"type": "file", "path": name, "size": len(data), "oid": git_hash(data)} for name, data in found])
        return None

    def _facts(self, repository: str) -> Answer:
        siblings = [{"rfilename": name} for name in sorted(self.repositories[repository])]
        return _json({"id": repository, "modelId": repository, "sha": self.revision(repository), "siblings": siblings, "tags": []})

    def _commit(self, repository: str, lines: list[dict[str, dict[str, str]]]) -> Answer:
        header, *operations = lines
        for operation in operations:
            if operation["key"] != "file":
                return _error(400, "", f"operation {operation['key']} is not part of this server")
            self.repositories[repository][operation["value"]["path"]] = base64.b64decode(operation["value"]["content"])
        self.commits.append((repository, header["value"]["summary"]))
        sha = self.revision(repository)
        return _json({"success": True, "commitOid": sha, "commitUrl": f"{self.endpoint}/{repository}/commit/{sha}"})

    def _file(self, repository: str, revision: str, name: str) -> Answer:
        if (repository, revision) in self.tags:
            repository, revision = self.tags[repository, revision], "main"
        if repository not in self.repositories:
            return _error(404, "RepoNotFound", "Repository not found")
        commit = {"X-Repo-Commit": self.revision(repository)}
        if revision not in ("main", commit["X-Repo-Commit"]):
            return _error(404, "RevisionNotFound", "Invalid rev id")
        if name not in self.repositories[repository]:
            return _error(404, "EntryNotFound", "Entry not found", commit)
        content = self.repositories[repository][name]
        return 200, content, {"ETag": f'"{git_hash(content)}"', "Content-Type": "application/octet-stream", **commit}


def _json(value: object, status: int = 200) -> Answer:
    return status, json.dumps(value).encode(), {"Content-Type": "application/json"}


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Answer:
    return status, message.encode(), {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})}


def _validate_card(text: str) -> Answer:
    """The README must start with a block of YAML between two lines of dashes that names a licence."""
    pieces = text.split("---\n", 2)
    head = yaml.safe_load(pieces[1]) if len(pieces) == 3 and not pieces[0] else None
    wrong = [] if isinstance(head, dict) and head.get("license") else [{"message": "no front matter, or no license in it"}]
    return _json({"errors": wrong, "warnings": []}, 400 if wrong else 200)


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def _reply(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        status, content, headers = self.hub.answer("GET" if self.command == "HEAD" else self.command, self.path, body, token)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_DELETE = _reply  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


def stay_with_the_endpoint() -> None:
    """Send requests to https://huggingface.co to HF_ENDPOINT, and refuse any other address, so that no test leaves this machine."""
    import httpx
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    endpoint = httpx.URL(os.environ["HF_ENDPOINT"])

    def redirect(request: httpx.Request) -> None:
        if request.url.host == "huggingface.co":
            request.url = endpoint.copy_with(raw_path=request.url.raw_path)
            request.headers["Host"] = endpoint.netloc.decode()
        if request.url.netloc != endpoint.netloc:
            raise RuntimeError(f"a request to {request.url} would leave this machine")

    def client() -> httpx.Client:
        made = default_client_factory()
        made.event_hooks = {**made.event_hooks, "request": [*made.event_hooks["request"], redirect]}
        return made

    set_client_factory(client)


if __name__ == "__main__":
    stay_with_the_endpoint()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
