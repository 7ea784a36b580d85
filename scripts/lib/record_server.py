"""Passes requests on to a server and writes each with its answer as a JSON line: a session to be replayed in tests.

    python scripts/lib/record_server.py SERVER_ROOT PORT FILE

A request that was asked before is written once. What names the session (ids, times) stays as it is.
"""

import http.server
import json
import sys
import threading
import urllib.error
import urllib.request


def main():
    root, port, path = sys.argv[1:]
    seen, lock = set(), threading.Lock()
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    class Pass(http.server.BaseHTTPRequestHandler):
        def go(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = urllib.request.Request(root + self.path, body or None, method=self.command)
            if body:
                request.add_header("Content-Type", "application/json")
            try:
                with direct.open(request, timeout=300) as answer:
                    status, kind, text = answer.status, answer.headers.get("Content-Type"), answer.read()
            except urllib.error.HTTPError as error:
                status, kind, text = error.code, error.headers.get("Content-Type"), error.read()
            try:
                shown = json.loads(text)
            except ValueError:
                shown = text.decode()
            asked = [self.command, self.path, body.decode()]
            with lock:
                if json.dumps(asked) not in seen:
                    seen.add(json.dumps(asked))
                    row = {"method": asked[0], "path": asked[1], "body": json.loads(body) if body else None,
                           "status": status, "answer": shown}
                    with open(path, "a", encoding="utf-8") as out:
                        out.write(json.dumps(row, ensure_ascii=False) + "\n")
            self.send_response(status)
            self.send_header("Content-Type", kind or "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = go

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Pass).serve_forever()


if __name__ == "__main__":
    main()
