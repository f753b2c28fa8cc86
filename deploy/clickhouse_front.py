"""The ClickHouse engine behind the part of ClickHouse's HTTP interface that our client uses.

For development, demo and CI: production and kafka-compose.yml run the real server. The engine is the real one
(chdb); this file only carries requests to it, one at a time.
"""

import os
import re
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from chdb import session as chdb_session

NOT_SETTINGS = {"query", "database", "default_format", "user", "password", "compress", "decompress"}
INSERT = re.compile(r"^\s*INSERT\s+INTO\s+(\S+?)\s*(\([^)]*\))?\s+FORMAT\s+(\w+)\s*$", re.IGNORECASE | re.DOTALL)


class Engine:
    def __init__(self, folder):
        self.session = chdb_session.Session(folder)
        self.lock = threading.Lock()
        self.folder = folder

    def run(self, sql, database, settings, output_format, body):
        clause = ", ".join(f"{name} = {quoted(value)}" for name, value in settings.items())
        with self.lock:
            if database:
                self.session.query(f"USE {database}")
            insert = INSERT.match(sql)
            if insert and body is not None:
                return self.insert(insert, clause, body)
            return self.session.query(sql, output_format or "TabSeparated").bytes()

    def insert(self, insert, clause, body):
        table, columns, body_format = insert.group(1), insert.group(2) or "", insert.group(3)
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
            file.write(body)
        names = columns.strip("()") or "*"
        suffix = f" SETTINGS {clause}" if clause else ""
        try:
            self.session.query(
                f"INSERT INTO {table} {columns} SELECT {names} FROM file('{file.name}', {body_format}){suffix}"
            )
        finally:
            os.unlink(file.name)
        return b""


def quoted(value):
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def handler(engine):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Answers are small and written in two pieces: without this each waits for the peer's delayed ACK.
        disable_nagle_algorithm = True
        wbufsize = -1

        def log_message(self, *arguments):
            pass

        def body(self):
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                parts = []
                while True:
                    size = int(self.rfile.readline().split(b";")[0], 16)
                    part = self.rfile.read(size)
                    self.rfile.readline()
                    if size == 0:
                        return b"".join(parts)
                    parts.append(part)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def do_GET(self):
            if urlsplit(self.path).path == "/ping":
                return self.answer(200, b"Ok.\n")
            return self.query(None)

        def do_POST(self):
            self.query(self.body())

        def query(self, body):
            parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
            sql = parameters.get("query")
            if sql is None:
                sql, body = (body or b"").decode(), None
            elif not body and not INSERT.match(sql):
                body = None
            settings = {name: value for name, value in parameters.items() if name not in NOT_SETTINGS}
            output_format = parameters.get("default_format")
            found = re.search(r"\sFORMAT\s+(\w+)\s*;?\s*$", sql)
            if found and not INSERT.match(sql):
                output_format, sql = found.group(1), sql[: found.start()]
            try:
                answer = engine.run(sql, parameters.get("database"), settings, output_format, body)
            except Exception as error:  # the engine's own error classes differ by version
                text = str(error)
                code = re.search(r"Code: (\d+)", text)
                return self.answer(400, text.encode(), code.group(1) if code else "1002")
            return self.answer(200, answer)

        def answer(self, status, body, code=None):
            self.send_response(status)
            if code:
                self.send_header("X-ClickHouse-Exception-Code", code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True


if __name__ == "__main__":
    folder, port = sys.argv[1], int(sys.argv[2])
    Server(("127.0.0.1", port), handler(Engine(folder))).serve_forever()
