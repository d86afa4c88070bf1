"""A BMC with Redfish, for tests: python3 bmc.py FOLDER. It has answers.json, cert and key from FOLDER, prints its port, and
writes each request to FOLDER/requests: status, path, and "login" where there is one.

answers.json has a path for each answer, with the query or without it:
    {"json": ...}, {"text": ...}       this body ("status": 200)
    {"redirect": ADDRESS}              302
    {"megabytes": N, "chunked": false} a body of so many MB
    {"drip": 1}                        a body that never ends, byte by byte
    {"endless": 1}                     a page with an entry nobody has seen, and a link to the next, without an end
"login" is the user and password that all but the root want.
"""

import base64, http.server, json, os, ssl, sys, time, urllib.parse

folder = sys.argv[1]
with open(os.path.join(folder, "answers.json")) as file:
    answers = json.load(file)
login = answers.pop("login", None)
log = open(os.path.join(folder, "requests"), "w", buffering=1)


class Bmc(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self, status, body, **headers):
        sent = self.headers.get("Authorization")
        log.write(f"{status} {self.path}{' login' if sent else ''}\n")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path, _, query = self.path.partition("?")
        answer = answers.get(self.path) or answers.get(path)
        wanted = login and "Basic " + base64.b64encode(login.encode()).decode()
        if wanted and path != "/redfish/v1/" and self.headers.get("Authorization") != wanted:
            return self.body(401, b"{}")
        if answer is None:
            return self.body(404, b"{}")
        try:
            self.answer(answer, path, query)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    def answer(self, answer, path, query):
        if "redirect" in answer:
            return self.body(302, b"", Location=answer["redirect"])
        if "endless" in answer:
            number = int(urllib.parse.parse_qs(query).get("skip", ["0"])[0])
            entry = {"@odata.id": f"{path}/{number}", "EntryType": "SEL", "SensorType": "Fan"}
            page = {"Members": [entry], "Members@odata.nextLink": f"{path}?skip={number + 1}"}
            return self.body(200, json.dumps(page).encode())
        if "megabytes" in answer or "drip" in answer:
            log.write(f"200 {self.path}\n")
            self.send_response(200)
            if not answer.get("chunked"):
                self.send_header("Content-Length", str(answer.get("megabytes", 1) << 20))
            else:
                self.send_header("Connection", "close")
                self.close_connection = True
            self.end_headers()
            while "drip" in answer:
                self.wfile.write(b" ")
                time.sleep(0.05)
            for _ in range(answer["megabytes"]):
                self.wfile.write(b" " * (1 << 20))
            return
        body = answer["text"] if "text" in answer else json.dumps(answer.get("json", {}))
        self.body(answer.get("status", 200), body.encode())


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Those who do not trust us hang up."""


server = Server(("127.0.0.1", 0), Bmc)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(folder, "cert"), os.path.join(folder, "key"))
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
server.serve_forever()
