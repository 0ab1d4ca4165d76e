"""A strict Google Cloud Storage server for tests: the JSON API as its public documentation has it, for one bucket.

The emulators in the package registries don't keep to it: they ignore preconditions, or publish empty objects. This one has
preconditions, multipart and resumable uploads with their checksums, ranges, paging, holds and retention, and two accounts
that get their tokens by OAuth. Its state is on disk and survives kill -9.

gcs_server.py PORT FOLDER BUCKET
"""

import base64
import datetime
import json
import os
import re
import socket
import sqlite3
import sys
import threading
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import google_crc32c

PORT, FOLDER, BUCKET = int(sys.argv[1]), sys.argv[2], sys.argv[3]
# Chunks of resumable uploads are multiples of this, but for the last.
QUANTUM = 256 << 10
# Where names with `/nowhere/` are to be uploaded to. Names with `/plain/` are served without ranges and headers. Emulators do both.
NOBODYS_PORT = 1
# Refresh token: (token, what the account may do).
ACCOUNTS = {
    "refresh-writer": ("token-writer", {"create", "get", "list", "delete"}),
    "refresh-reader": ("token-reader", {"get", "list"}),
}
KEPT = ("metadata", "contentType", "storageClass", "temporaryHold", "eventBasedHold", "retention")
LOCK = threading.RLock()

os.makedirs(FOLDER, exist_ok=True)
DB = sqlite3.connect(os.path.join(FOLDER, "state.sqlite"), check_same_thread=False, isolation_level=None)
DB.executescript(
    """pragma journal_mode=wal; pragma synchronous=normal;
    create table if not exists objects(name text primary key, meta text, bytes blob);
    create table if not exists uploads(id text primary key, meta text, match integer, bytes blob, result text);"""
)


class Refused(Exception):
    def __init__(self, status, reason, message):
        self.status, self.reason, self.message = status, reason, message


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def stamp(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def crc32c(data):
    return base64.b64encode(google_crc32c.Checksum(data).digest()).decode()


def find(name):
    row = DB.execute("select meta, bytes from objects where name=?", (name,)).fetchone()
    if not row:
        raise Refused(404, "notFound", f"No such object: {BUCKET}/{name}")
    return json.loads(row[0]), row[1]


def check_match(name, match):
    if match is None:
        return
    row = DB.execute("select meta from objects where name=?", (name,)).fetchone()
    generation = json.loads(row[0])["generation"] if row else "0"
    if generation != str(match):
        raise Refused(412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold.")


def publish(meta, data, match, claimed):
    """Makes an object of bytes whose claimed checksums are right."""
    name = meta.get("name")
    if not name:
        raise Refused(400, "required", "Required parameter: name")
    if claimed and claimed != crc32c(data):
        raise Refused(400, "invalid", f'Provided CRC32C "{claimed}" doesn\'t match calculated CRC32C "{crc32c(data)}".')
    moment = now()
    with LOCK:
        check_match(name, match)
        stored = {key: meta[key] for key in KEPT if key in meta}
        stored.update(
            kind="storage#object", name=name, bucket=BUCKET, size=str(len(data)), crc32c=crc32c(data), metageneration="1",
            generation=str(int(moment.timestamp() * 1e6)), timeCreated=stamp(moment), updated=stamp(moment),
        )
        stored.setdefault("storageClass", "STANDARD")
        stored["kmsKeyName"] = meta.get("kmsKeyName", "")
        DB.execute("replace into objects values(?,?,?)", (name, json.dumps(stored), data))
    return stored


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            length = int(self.headers.get("Content-Length") or 0)
            data = self.rfile.read(length)
            if len(data) < length:
                raise ConnectionError
            return data
        parts = []
        while True:
            line = self.rfile.readline()
            if not line:
                raise ConnectionError
            size = int(line.split(b";")[0], 16)
            data = self.rfile.read(size)
            if len(data) < size:
                raise ConnectionError
            self.rfile.readline()
            if size == 0:
                return b"".join(parts)
            parts.append(data)

    def answer(self, status, value=None, headers=None, data=None):
        data = data if data is not None else b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if value is not None:
            self.send_header("Content-Type", "application/json; charset=UTF-8")
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def handle_any(self):
        url = urllib.parse.urlsplit(self.path)
        self.query = {name: values[-1] for name, values in urllib.parse.parse_qs(url.query, keep_blank_values=True).items()}
        try:
            self.data = self.body()
            self.route(url.path)
        except Refused as error:
            details = [{"domain": "global", "reason": error.reason, "message": error.message}]
            self.answer(error.status, {"error": {"code": error.status, "message": error.message, "errors": details}})
        except ValueError:
            self.answer(400, {"error": {"code": 400, "message": "Parse Error", "errors": [{"reason": "parseError"}]}})
        except ConnectionError:
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_DELETE = handle_any

    def may(self, action):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        rights = next((rights for known, rights in ACCOUNTS.values() if known == token), None)
        # As the emulators do, for clients without credentials.
        if token and rights is None:
            raise Refused(401, "authError", "Invalid Credentials")
        if rights is not None and action not in rights:
            text = f"test@example.com does not have storage.objects.{action} access to the Google Cloud Storage object. "
            raise Refused(403, "forbidden", text + f"Permission 'storage.objects.{action}' denied on resource (or it may not exist).")

    def route(self, path):
        if path == "/healthz":
            return self.answer(200)
        if path == "/token":
            return self.token()
        match = re.fullmatch(r"(/upload)?/storage/v1/b/([^/]+)/o(?:/([^/]+))?", path)
        if not match:
            raise Refused(404, "notFound", "Not Found")
        upload, bucket, name = match[1], match[2], urllib.parse.unquote(match[3] or "")
        if bucket != BUCKET:
            raise Refused(404, "notFound", "The specified bucket does not exist.")
        if upload:
            self.may("create")
            return self.resume() if "upload_id" in self.query else self.upload()
        if not name:
            self.may("list")
            return self.list()
        if self.command == "DELETE":
            self.may("delete")
            return self.delete(name)
        self.may("get")
        if self.query.get("alt") == "media":
            return self.media(name)
        return self.answer(200, find(name)[0])

    def token(self):
        form = urllib.parse.parse_qs(self.data.decode())
        try:
            asked = json.loads(self.data)["refresh_token"]
        except ValueError:
            asked = form.get("refresh_token", [""])[0]
        if asked not in ACCOUNTS:
            return self.answer(400, {"error": "invalid_grant", "error_description": "Bad Request"})
        return self.answer(200, {"access_token": ACCOUNTS[asked][0], "expires_in": 3600, "token_type": "Bearer"})

    def list(self):
        query = self.query
        after = base64.urlsafe_b64decode(query.get("pageToken", "")).decode()
        most = min(1000, int(query.get("maxResults", 1000)))
        prefix, start = query.get("prefix", ""), query.get("startOffset", "")
        items, more = [], False
        for name, meta in DB.execute("select name, meta from objects where name >= ? and name > ? order by name", (max(prefix, start), after)):
            if not name.startswith(prefix):
                break
            if len(items) == most:
                more = True
                break
            items.append(json.loads(meta))
        answer = {"kind": "storage#objects"}
        if items:
            answer["items"] = items
        if more:
            answer["nextPageToken"] = base64.urlsafe_b64encode(items[-1]["name"].encode()).decode()
        self.answer(200, answer)

    def delete(self, name):
        with LOCK:
            meta, _ = find(name)
            if meta.get("temporaryHold") or meta.get("eventBasedHold"):
                raise Refused(403, "forbidden", f"Object '{BUCKET}/{name}' is under active Temporary hold and cannot be deleted.")
            until = (meta.get("retention") or {}).get("retainUntilTime")
            if until and datetime.datetime.fromisoformat(until.replace("Z", "+00:00")) > now():
                raise Refused(403, "retentionPolicyNotMet", f"Object '{BUCKET}/{name}' is subject to retention until {until}.")
            DB.execute("delete from objects where name=?", (name,))
        self.answer(204)

    def media(self, name):
        meta, data = find(name)
        size, status = len(data), 200
        if "/plain/" in name:
            return self.answer(200, data=data)
        headers = {
            "Content-Type": meta.get("contentType", "application/octet-stream"), "X-Goog-Hash": "crc32c=" + meta["crc32c"],
            "X-Goog-Generation": meta["generation"], "X-Goog-Metageneration": "1", "X-Goog-Stored-Content-Length": str(size),
            "X-Goog-Stored-Content-Encoding": "identity", "X-Goog-Storage-Class": meta["storageClass"],
        }
        headers.update({"X-Goog-Meta-" + key: value for key, value in meta.get("metadata", {}).items()})
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted:
            first, last = int(wanted[1]), min(size - 1, int(wanted[2] or size - 1))
            if first >= size or first > last:
                return self.answer(416, headers={"Content-Range": f"bytes */{size}"}, data=b"")
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
            data, status = data[first : last + 1], 206
        self.answer(status, headers=headers, data=data)

    def terms(self, meta):
        """What the address says beside the description of the object."""
        meta.setdefault("name", self.query.get("name"))
        if "kmsKeyName" in self.query:
            meta["kmsKeyName"] = self.query["kmsKeyName"]
        if meta.get("kmsKeyName", "").endswith("/no-such-key"):
            raise Refused(400, "invalid", "Cloud KMS key not found.")
        match = self.query.get("ifGenerationMatch")
        return meta, int(match) if match is not None else None

    def upload(self):
        kind = self.query.get("uploadType")
        if kind == "resumable":
            meta, match = self.terms(json.loads(self.data or b"{}"))
            check_match(meta["name"], match)
            upload = uuid.uuid4().hex
            DB.execute("insert into uploads values(?,?,?,?,?)", (upload, json.dumps(meta), match, b"", ""))
            port = NOBODYS_PORT if "/nowhere/" in meta["name"] else PORT
            where = f"http://127.0.0.1:{port}/upload/storage/v1/b/{BUCKET}/o?uploadType=resumable&upload_id={upload}"
            return self.answer(200, headers={"Location": where})
        if kind != "multipart":
            raise Refused(400, "invalid", "Unknown uploadType")
        boundary = re.search(r'boundary="?([^";]+)', self.headers.get("Content-Type", ""))
        parts = self.data.split(b"--" + boundary[1].encode()) if boundary else []
        if len(parts) < 4 or not parts[-1].startswith(b"--"):
            raise Refused(400, "badContent", "Malformed multipart body")
        contents = [part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n") for part in parts[1:-1]]
        meta, match = self.terms(json.loads(contents[0]))
        # Checksums may follow the bytes as a third part.
        trailer = json.loads(contents[2]) if len(contents) > 2 else {}
        self.answer(200, publish(meta, contents[1], match, trailer.get("crc32c") or meta.get("crc32c")))

    def resume(self):
        row = DB.execute("select meta, match, bytes, result from uploads where id=?", (self.query["upload_id"],)).fetchone()
        if not row:
            raise Refused(404, "notFound", "Not Found")
        if row[3]:
            return self.answer(200, json.loads(row[3]))
        meta, match, there = json.loads(row[0]), row[1], row[2]
        given = self.headers.get("Content-Range") or f"bytes 0-{len(self.data) - 1}/{len(self.data)}"
        place = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", given)
        if not place:
            raise Refused(400, "badRequest", "Failed to parse Content-Range header.")
        total = int(place[3]) if place[3] != "*" else None
        if place[1] is not None:
            first = int(place[1])
            if first > len(there):
                raise Refused(503, "backendError", "The upload offset exceeds what is already uploaded.")
            there += self.data[len(there) - first :]
            if len(there) != total:
                there = there[: len(there) // QUANTUM * QUANTUM]
            DB.execute("update uploads set bytes=? where id=?", (there, self.query["upload_id"]))
        if total is None or len(there) < total:
            return self.answer(308, headers={"Range": f"bytes=0-{len(there) - 1}"} if there else {})
        claimed = dict(part.split("=", 1) for part in (self.headers.get("X-Goog-Hash") or "").replace(" ", "").split(",") if "=" in part)
        result = publish(meta, there, match, claimed.get("crc32c") or meta.get("crc32c"))
        DB.execute("update uploads set result=?, bytes=? where id=?", (json.dumps(result), b"", self.query["upload_id"]))
        self.answer(200, result)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server(("127.0.0.1", PORT), Handler).serve_forever()
