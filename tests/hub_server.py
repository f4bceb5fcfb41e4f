"""A small Hugging Face Hub on 127.0.0.1: the HTTP API that the real `huggingface_hub` client speaks, kept in memory.

It knows create, look, preupload, Git LFS (basic), commit, pull requests and download, with the Hub's own status codes and
`X-Error-Code`s, and it can fail in the ways that a network fails, at any request. It does not speak Xet: clients run with
HF_HUB_DISABLE_XET=1, and so take the Git LFS way.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKENS = {"hf_alice": "alice", "hf_bob": "bob"}
LFS_SUFFIXES = (".safetensors", ".png", ".bin")


@dataclass
class Commit:
    oid: str
    title: str
    files: dict[str, bytes]


@dataclass
class Repository:
    private: bool
    branches: dict[str, list[Commit]] = field(default_factory=dict)

    def commit(self, branch: str, title: str, files: dict[str, bytes]) -> Commit:
        history = self.branches.setdefault(branch, [])
        oid = hashlib.sha1(f"{branch}{len(history)}{title}{sorted(files)}".encode() + b"".join(files.values())).hexdigest()
        history.append(Commit(oid, title, files))
        return history[-1]

    def find(self, revision: str) -> Commit | None:
        if self.branches.get(revision):
            return self.branches[revision][-1]
        return next((c for history in self.branches.values() for c in history if c.oid == revision), None)


@dataclass
class Fault:
    """What goes wrong.

    Attributes:
        kind: A status code, or "drop" (no answer, nothing done), "half" (the connection ends in the middle of the body that
            is sent), "lost" (all is done, the answer is lost).
        at: The first request that it happens to, counted from 0 after `Hub.plan`.
        times: How many requests it happens to.
        path: A pattern that the request line "METHOD /path" must fit.
    """

    kind: int | str
    at: int = 0
    times: int = 1
    path: str = ""


class Hub:
    """The server, its repositories, the requests it saw and the fault that is planned."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.fault: Fault | None = None
        self.invalid: str | None = None  # what the Hub has to say against the metadata of cards
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reset(self, fault: Fault | None = None) -> None:
        """Forget everything, and plan the next fault."""
        with self.lock:
            self.repositories.clear()
            self.blobs.clear()
            self.invalid = None
            self.plan(fault)

    def plan(self, fault: Fault | None = None) -> None:
        """Count requests anew, and let this fault happen."""
        with self.lock:
            self.requests.clear()
            self.fault = fault

    def add(self, repo_id: str, files: dict[str, bytes], private: bool = False) -> Repository:
        """Put a repository there, as if somebody had pushed it."""
        repository = self.repositories[repo_id] = Repository(private)
        repository.commit("main", "initial commit", {".gitattributes": b""} | files)
        return repository

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        commit = self.repositories[repo_id].find(revision)
        return commit.files if commit else {}

    def take_fault(self, line: str) -> int | str | None:
        with self.lock:
            number = len(self.requests)
            self.requests.append(line)
            fault = self.fault
            if fault is None or fault.times == 0 or number < fault.at or not re.search(fault.path, line):
                return None
            fault.times -= 1
            return fault.kind


class _RefusalError(Exception):
    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        pass

    Handler.hub = hub
    return Handler


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._handle()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _handle(self) -> None:
        line = f"{self.command} {unquote(urlsplit(self.path).path)}"
        kind = self.hub.take_fault(line)
        length = int(self.headers.get("Content-Length") or 0)
        if kind == "half":
            self.rfile.read(length // 2)
        if kind in ("half", "drop"):
            self._hang_up()
            return
        body = self._read_chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(length)
        if isinstance(kind, int):
            headers = {"Retry-After": "1"} if kind == 429 else {}
            self._send(kind, json.dumps({"error": f"planned {kind}"}).encode(), headers)
            return
        if kind == "race":
            for repository in self.hub.repositories.values():
                repository.commit("main", "somebody else's", {**repository.branches["main"][-1].files, "theirs.txt": b"theirs"})
        try:
            with self.hub.lock:
                status, answer, headers = self._answer(body)
        except _RefusalError as refusal:
            status, answer = refusal.status, json.dumps({"error": refusal.message}).encode()
            headers = {"X-Error-Message": refusal.message} | ({"X-Error-Code": refusal.code} if refusal.code else {})
        if kind == "lost":
            self._hang_up()
        else:
            self._send(status, answer, headers)

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _read_chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, status: int, answer: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": str(len(answer)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    @property
    def _user(self) -> str | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in TOKENS:
            raise _RefusalError(401, "Invalid credentials in Authorization header")
        return TOKENS.get(token)

    def _answer(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        url = urlsplit(self.path)
        path = unquote(url.path)
        routes = [
            (r"POST /api/validate-yaml", self._validate),
            (r"GET /api/whoami-v2", self._whoami),
            (r"POST /api/repos/create", self._create),
            (r"GET /api/models/([^/]+/[^/]+)", self._info),
            (r"GET /api/models/([^/]+/[^/]+)/revision/(.+)", self._info),
            (r"GET /api/models/([^/]+/[^/]+)/tree/([^/]+)/?(.*)", self._tree),
            (r"POST /api/models/([^/]+/[^/]+)/preupload/(.+)", self._preupload),
            (r"POST /api/models/([^/]+/[^/]+)/commit/(.+)", self._commit),
            (r"POST /([^/]+/[^/]+)\.git/info/lfs/objects/batch", self._batch),
            (r"PUT /lfs/(\w+)", self._put),
            (r"(?:GET|HEAD) /([^/]+/[^/]+)/resolve/([^/]+|refs/pr/\d+)/(.+)", self._resolve),
        ]
        for pattern, route in routes:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                return route(body, *found.groups())
        raise _RefusalError(404, f"no such page: {self.command} {path}")

    def _json(self, data: object) -> tuple[int, bytes, dict[str, str]]:
        return 200, json.dumps(data).encode(), {}

    def _validate(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        if self.hub.invalid:
            return 400, json.dumps({"errors": [{"message": self.hub.invalid}], "warnings": []}).encode(), {}
        return self._json({"errors": [], "warnings": []})

    def _whoami(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        if self._user is None:
            raise _RefusalError(401, "Invalid username or password.")
        return self._json({"type": "user", "name": self._user, "orgs": [], "auth": {"type": "access_token"}})

    def _create(self, body: bytes) -> tuple[int, bytes, dict[str, str]]:
        given = json.loads(body)
        user = self._user
        if user is None:
            raise _RefusalError(401, "Invalid username or password.")
        owner = given.get("organization") or user
        repo_id = f"{owner}/{given['name']}"
        url = f"{self.hub.endpoint}/{repo_id}"
        if owner != user:
            raise _RefusalError(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        if repo_id in self.hub.repositories:
            return 409, json.dumps({"error": "You already created this model repo", "url": url}).encode(), {}
        self.hub.add(repo_id, {}, private=given.get("private") or given.get("visibility") == "private")
        return self._json({"url": url, "name": repo_id, "id": "1"})

    def _find(self, repo_id: str, revision: str = "main", write: bool = False) -> tuple[Repository, Commit]:
        user = self._user
        repository = self.hub.repositories.get(repo_id)
        owner = repo_id.partition("/")[0]
        if repository is None or (repository.private and user != owner):
            raise _RefusalError(401 if user is None else 404, "Repository not found", "RepoNotFound")
        if write and user != owner:
            raise _RefusalError(403, "Authorization error.")
        commit = repository.find(revision)
        if commit is None:
            raise _RefusalError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repository, commit

    def _entry(self, path: str, content: bytes) -> dict[str, object]:
        entry: dict[str, object] = {"type": "file", "path": path, "size": len(content), "oid": _git_oid(content)}
        if path.endswith(LFS_SUFFIXES):
            entry["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 134}
        return entry

    def _info(self, body: bytes, repo_id: str, revision: str = "main") -> tuple[int, bytes, dict[str, str]]:
        repository, commit = self._find(repo_id, revision)
        siblings = []
        for path, content in commit.files.items():
            sibling: dict[str, object] = {"rfilename": path}
            if "blobs" in parse_qs(urlsplit(self.path).query):
                sibling |= {"size": len(content), "blobId": _git_oid(content)}
                if path.endswith(LFS_SUFFIXES):
                    sibling["lfs"] = {"sha256": _sha256(content), "size": len(content), "pointerSize": 134}
            siblings.append(sibling)
        owner = repo_id.partition("/")[0]
        return self._json(
            {"id": repo_id, "modelId": repo_id, "author": owner, "sha": commit.oid, "private": repository.private}
            | {"siblings": siblings, "tags": [], "downloads": 0, "likes": 0, "disabled": False, "gated": False}
        )

    def _tree(self, body: bytes, repo_id: str, revision: str, folder: str) -> tuple[int, bytes, dict[str, str]]:
        _, commit = self._find(repo_id, revision)
        entries = [self._entry(path, content) for path, content in commit.files.items() if path.startswith(folder)]
        if folder and not entries:
            raise _RefusalError(404, f"{folder} does not exist", "EntryNotFound")
        return self._json(entries)

    def _preupload(self, body: bytes, repo_id: str, revision: str) -> tuple[int, bytes, dict[str, str]]:
        _, commit = self._find(repo_id, revision, write="create_pr" not in self.path)
        files = []
        for given in json.loads(body)["files"]:
            old = commit.files.get(given["path"])
            is_lfs = given["path"].endswith(LFS_SUFFIXES)
            oid = None if old is None else _sha256(old) if is_lfs else _git_oid(old)
            files.append({"path": given["path"], "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False, "oid": oid})
        return self._json({"files": files})

    def _batch(self, body: bytes, repo_id: str) -> tuple[int, bytes, dict[str, str]]:
        self._find(repo_id)
        objects = []
        for given in json.loads(body)["objects"]:
            actions = {"upload": {"href": f"{self.hub.endpoint}/lfs/{given['oid']}", "header": {}}}
            objects.append({**given, **({} if given["oid"] in self.hub.blobs else {"actions": actions})})
        return self._json({"transfer": "basic", "objects": objects})

    def _put(self, body: bytes, oid: str) -> tuple[int, bytes, dict[str, str]]:
        if _sha256(body) != oid:
            raise _RefusalError(400, "the content does not fit its sha256")
        self.hub.blobs[oid] = body
        return 200, b"", {}

    def _commit(self, body: bytes, repo_id: str, revision: str) -> tuple[int, bytes, dict[str, str]]:
        as_pull_request = "create_pr" in parse_qs(urlsplit(self.path).query)
        repository, commit = self._find(repo_id, revision, write=not as_pull_request)
        lines = [json.loads(line) for line in body.splitlines() if line]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if not as_pull_request and header.get("parentCommit", commit.oid) != commit.oid:
            raise _RefusalError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(commit.files)
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                files[line["value"]["path"]] = self.hub.blobs[line["value"]["oid"]]
        branch = f"refs/pr/{sum(name.startswith('refs/pr/') for name in repository.branches) + 1}" if as_pull_request else revision
        made = repository.commit(branch, header["summary"], files)
        answer = {"success": True, "commitOid": made.oid, "commitUrl": f"{self.hub.endpoint}/{repo_id}/commit/{made.oid}"}
        if as_pull_request:
            answer["pullRequestUrl"] = f"{self.hub.endpoint}/{repo_id}/discussions/{branch.rpartition('/')[2]}"
        return self._json(answer)

    def _resolve(self, body: bytes, repo_id: str, revision: str, path: str) -> tuple[int, bytes, dict[str, str]]:
        _, commit = self._find(repo_id, revision)
        if path not in commit.files:
            raise _RefusalError(404, "Entry not found", "EntryNotFound")
        content = commit.files[path]
        is_lfs = path.endswith(LFS_SUFFIXES)
        etag = _sha256(content) if is_lfs else _git_oid(content)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit.oid, "Content-Type": "application/octet-stream"}
        if is_lfs:
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        return 200, content, headers


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


_WORKER = """
import contextlib, io, json, sys, time, warnings
time.sleep = lambda seconds: None  # the client waits up to 23 s between its retries; it still makes them all
import huggingface_hub, timm, torch, timm_inject
assert huggingface_hub.constants.ENDPOINT == sys.argv[1]
space = {"timm": timm, "torch": torch, "timm_inject": timm_inject}
answers = sys.stdout
sys.stdout = sys.stderr
for line in sys.stdin:
    answer = {"notes": []}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", timm_inject.InjectionWarning)
        try:
            exec(json.loads(line), space)
            answer["value"] = space.pop("value", None)
        except BaseException as error:
            answer |= {"error": type(error).__name__, "message": str(error), "bases": [c.__name__ for c in type(error).__mro__]}
    answer["notes"] = [str(w.message) for w in caught if issubclass(w.category, timm_inject.InjectionWarning)]
    answers.write(json.dumps(answer) + "\\n")
    answers.flush()
"""


@dataclass(frozen=True)
class Failure:
    """An error of the client's process."""

    kind: str
    message: str
    bases: list[str]


class Client:
    """A process of its own with the real client, as HF_ENDPOINT is read when huggingface_hub is imported."""

    def __init__(self, hub: Hub, home: str, token: str | None = "hf_alice", cache: Path | None = None) -> None:
        # What the machine, or the page that other tests import, sets for itself.
        unset = {"HF_TOKEN", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_DISABLE_IMPLICIT_TOKEN"}
        environment = {key: value for key, value in os.environ.items() if key not in unset}
        environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": home, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        environment |= {"TIMM_INJECT_CACHE": str(cache or f"{home}/timm_inject"), "OMP_NUM_THREADS": "1"}
        environment |= {"HF_TOKEN": token} if token else {}
        # A proxy for the outside must not come between the two on 127.0.0.1.
        environment |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        self.notes: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WORKER, hub.endpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=Path(__file__).parent.parent,
        )

    def run(self, code: str) -> Any:
        """Run code there; give what it assigned to `value`, or the `Failure`. Names stay for the next call."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the client's process ended"
        answer = json.loads(line)
        self.notes = answer["notes"]
        return Failure(answer["error"], answer["message"], answer["bases"]) if "error" in answer else answer["value"]

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=30)
