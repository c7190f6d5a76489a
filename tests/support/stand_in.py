"""
A stand-in for the Hugging Face Hub: enough of its HTTP interface for pushes (git-LFS uploads, commits, branches, pull
requests), pulls, private repositories and refusals, in memory. `huggingface_hub` talks to it by HF_ENDPOINT.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_" + "standin" * 5
USER = "user"


@dataclass
class Repo:
    """Commits, each the files by name, the commit before each, and the branches that point at them."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)
    kind: str = "model"  # or "space"
    sdk: str | None = None  # of a Space

    def commit(self, ref: str, files: dict[str, bytes]) -> str:
        digest = hashlib.sha1(f"{len(self.commits)}".encode())
        for name, content in sorted(files.items()):
            digest.update(name.encode() + content)
        sha = digest.hexdigest()
        self.commits[sha] = files
        self.parents[sha] = self.refs.get(ref)
        self.refs[ref] = sha
        return sha

    def history(self, sha: str | None) -> Iterator[str]:
        """A commit and those before it, the newest first."""
        while sha is not None:
            yield sha
            sha = self.parents[sha]

    def resolve(self, revision: str) -> str | None:
        sha = self.refs.get(revision, revision)
        return sha if sha in self.commits else None


class Hub(ThreadingHTTPServer):
    """The server. It breaks off an upload `break_uploads_after` so many, and with `break_commits` every commit."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.break_uploads_after: int | None = None
        self.break_commits = False
        self.refused_metadata: str | None = None  # words in a card that it does not accept

    def environment(self, home: Path, token: str = TOKEN) -> dict[str, str]:
        """The only variables named HF_* of a process that takes this for the Hub; `home` is its cache."""
        variables = {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(home)}
        return variables | ({"HF_TOKEN": token} if token else {})

    def handle_error(self, request, client_address) -> None:
        """Silent: a client may go away."""


class Refusal(Exception):
    def __init__(self, status: int, code: str = "", **more):
        self.status, self.code, self.more = status, code, more


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args) -> None:
        pass

    def handle_one(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), {key: values[0] for key, values in parse_qs(url.query).items()}
        self.server.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._read_chunks()
        try:
            for pattern, method, answer in ROUTES:
                match = re.fullmatch(pattern, path)
                if match and self.command in method:
                    return answer(self, *match.groups(), body=body, query=query)
            raise Refusal(404)
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code} if refusal.code else {}
            self.reply({"error": refusal.code or "refused", **refusal.more}, refusal.status, headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one

    def _read_chunks(self) -> bytes:
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def reply(self, content, status: int = 200, headers: dict | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        for name, value in {"Content-Type": kind, "Content-Length": len(data), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def is_user(self) -> bool:
        """Whether the request's token is the user's; a wrong one is refused, as the Hub does."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token != TOKEN:
            raise Refusal(401)
        return bool(token)

    def repo(self, name: str, to_write: bool = False) -> Repo:
        repo, is_user = self.server.repos.get(name), self.is_user()
        if to_write and not is_user:
            raise Refusal(401)
        if repo is None or (repo.private and not is_user):
            raise Refusal(401 if not is_user else 404, "RepoNotFound")
        if to_write and not name.startswith(f"{USER}/"):
            raise Refusal(403)
        return repo

    def revision(self, repo: Repo, name: str) -> str:
        sha = repo.resolve(name)
        if sha is None:
            raise Refusal(404, "RevisionNotFound")
        return sha

    def whoami(self, body, query) -> None:
        if not self.is_user():
            raise Refusal(401)
        self.reply({"type": "user", "name": USER, "auth": {"accessToken": {"role": "write"}}, "orgs": []})

    def validate_yaml(self, body, query) -> None:
        refused = self.server.refused_metadata
        errors = (
            [{"message": f"{refused} is not allowed"}] if refused and refused in json.loads(body)["content"] else []
        )
        self.reply({"errors": errors, "warnings": []}, 400 if errors else 200)

    def create_repo(self, body, query) -> None:
        if not self.is_user():
            raise Refusal(401)
        wanted = json.loads(body)
        owner = wanted.get("organization") or USER
        name = f"{owner}/{wanted['name']}"
        if name in self.server.repos:
            raise Refusal(409, url=f"{self.server.url}/{name}")
        if owner != USER:
            raise Refusal(403)
        repo = self.server.repos[name] = Repo(bool(wanted.get("private") or wanted.get("visibility") == "private"))
        repo.kind, repo.sdk = wanted.get("type", "model"), wanted.get("sdk")
        repo.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"})
        place = f"spaces/{name}" if repo.kind == "space" else name
        self.reply({"url": f"{self.server.url}/{place}", "name": name, "id": "1"})

    def create_branch(self, name, branch, body, query) -> None:
        repo = self.repo(name, to_write=True)
        if branch in repo.refs:
            raise Refusal(409)
        repo.refs[branch] = self.revision(repo, (json.loads(body or b"{}") or {}).get("startingPoint") or "main")
        self.reply({})

    def preupload(self, name, revision, body, query) -> None:
        self.repo(name, to_write=True)
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith((".safetensors", ".png")) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(body)["files"]
        ]
        self.reply({"files": modes})

    def lfs_batch(self, name, body, query) -> None:
        self.repo(name, to_write=True)
        objects = [
            {"oid": one["oid"], "size": one["size"]}
            | (
                {}
                if one["oid"] in self.server.objects
                else {"actions": {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}}
            )
            for one in json.loads(body)["objects"]
        ]
        self.reply({"transfer": "basic", "objects": objects})

    def lfs_upload(self, oid, body, query) -> None:
        if self.server.break_uploads_after is not None:
            if self.server.break_uploads_after == 0:
                self.close_connection = True
                return self.connection.close()
            self.server.break_uploads_after -= 1
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.objects[oid] = body
        self.reply({})

    def commit(self, name, revision, body, query) -> None:
        if self.server.break_commits:
            self.close_connection = True
            return self.connection.close()
        repo = self.repo(name, to_write=True)
        files = dict(repo.commits[self.revision(repo, revision)])
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                files.pop(value["path"])
            elif entry["key"] == "deletedFolder":
                files = {path: content for path, content in files.items() if not path.startswith(value["path"])}
        answer = {"success": True, "hookOutput": ""}
        if query.get("create_pr") in ("1", "true", "True"):
            revision = f"refs/pr/{1 + sum(ref.startswith('refs/pr/') for ref in repo.refs)}"
            answer["pullRequestUrl"] = f"{self.server.url}/{name}/discussions/{revision.rpartition('/')[2]}"
        sha = repo.commit(revision, files)
        self.reply({**answer, "commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}"})

    def info(self, name, revision=None, *, body, query) -> None:
        repo = self.repo(name)
        sha = self.revision(repo, revision or "main")
        siblings = [{"rfilename": path} for path in repo.commits[sha]]
        self.reply(
            {"id": name, "modelId": name, "sha": sha, "private": repo.private, "siblings": siblings, "tags": []}
        )

    def commits(self, name, revision, *, body, query) -> None:
        repo = self.repo(name)
        common = {"authors": [{"user": USER}], "date": "2026-01-01T00:00:00.000Z", "message": ""}
        self.reply([{"id": sha, "title": "a commit", **common} for sha in repo.history(self.revision(repo, revision))])

    def tree(self, name, revision, *, body, query) -> None:
        repo = self.repo(name)
        files = repo.commits[self.revision(repo, revision)]
        entries = [
            {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for path, content in files.items()
        ]
        self.reply(entries)

    def file(self, name, revision, path, body, query) -> None:
        repo = self.repo(name)
        sha = self.revision(repo, revision)
        if path not in repo.commits[sha]:
            raise Refusal(404, "EntryNotFound")
        content = repo.commits[sha][path]
        tag = hashlib.sha256(content).hexdigest()
        self.reply(content, headers={"X-Repo-Commit": sha, "ETag": f'"{tag}"', "X-Linked-Size": len(content)})


NAME = r"([\w.-]+/[\w.-]+)"
KIND = "(?:models|spaces)"
ROUTES = [
    (r"/api/whoami-v2", "GET", Handler.whoami),
    (r"/api/validate-yaml", "POST", Handler.validate_yaml),
    (r"/api/repos/create", "POST", Handler.create_repo),
    (rf"/api/{KIND}/{NAME}/branch/(.+)", "POST", Handler.create_branch),
    (rf"/api/{KIND}/{NAME}/preupload/(.+)", "POST", Handler.preupload),
    (rf"/(?:spaces/)?{NAME}\.git/info/lfs/objects/batch", "POST", Handler.lfs_batch),
    (r"/lfs/(\w+)", "PUT", Handler.lfs_upload),
    (rf"/api/{KIND}/{NAME}/commit/(.+)", "POST", Handler.commit),
    (rf"/api/{KIND}/{NAME}/revision/(.+)", "GET", Handler.info),
    (rf"/api/{KIND}/{NAME}/tree/(refs/pr/\d+|[^/]+).*", "GET", Handler.tree),
    (rf"/api/{KIND}/{NAME}/commits/(.+)", "GET", Handler.commits),
    (rf"/api/{KIND}/{NAME}", "GET", Handler.info),
    (rf"/(?:spaces/)?{NAME}/resolve/(refs/pr/\d+|[^/]+)/(.+)", ("GET", "HEAD"), Handler.file),
]


@contextmanager
def hub_stand_in() -> Iterator[Hub]:
    """A running stand-in, whose `url` is for HF_ENDPOINT and `TOKEN` for HF_TOKEN."""
    with Hub() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
