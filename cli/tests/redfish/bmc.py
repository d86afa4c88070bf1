"""A BMC with Redfish, for tests: python3 bmc.py FOLDER. It has answers.json, cert and key from FOLDER, prints its port, and
writes each request to FOLDER/requests: status, method unless it is GET, path, and "login" or "token" where there is one.

answers.json has a path for each answer, with the query or without it, and a method before it unless it is GET:
    {"json": ...}, {"text": ...}       this body ("status": 200, "headers": {})
    {"packed": "gzip", ...}            it packed, which nobody has asked for
    {"chunked": true, ...}             it in chunks of a byte
    {"cut": N, ...}                    it without its last N bytes
    {"drop": 1}                        none: hangs up
    {"first": [...], ...}              these answers first, one after the other
    {"forget": 1, ...}                 all sessions end before it
    {"redirect": ADDRESS}              302
    {"megabytes": N, "chunked": false} a body of so many MB
    {"drip": 1}                        a body that never ends, byte by byte
    {"endless": N}                     a page with N entries nobody has seen, and a link to the next, without an end
"login" is the user and password that all but the root want. "sessions" is the path where these open a session; its token does,
too, until it is deleted. With "no_basic" nothing else does.
"""

import base64, gzip, http.server, json, os, ssl, sys, time, urllib.parse

folder = sys.argv[1]
with open(os.path.join(folder, "answers.json")) as file:
    answers = json.load(file)
login = answers.pop("login", None)
sessions = answers.pop("sessions", None)
no_basic = answers.pop("no_basic", False)
tokens = {}
log = open(os.path.join(folder, "requests"), "w", buffering=1)


class Bmc(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def write_down(self, status):
        method = "" if self.command == "GET" else self.command + " "
        sent = {"Authorization": " login", "X-Auth-Token": " token"}
        sent = "".join(name for header, name in sent.items() if self.headers.get(header))
        log.write(f"{status} {method}{self.path}{sent}\n")

    def body(self, status, body, chunked=False, cut=0, **headers):
        self.write_down(status)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) - cut])
        self.close_connection |= cut > 0

    def may(self):
        if self.headers.get("X-Auth-Token") in tokens:
            return True
        wanted = login and "Basic " + base64.b64encode(login.encode()).decode()
        return not wanted or not no_basic and self.headers.get("Authorization") == wanted

    def do_GET(self):
        path, _, query = self.path.partition("?")
        method = "" if self.command == "GET" else self.command + " "
        answer = answers.get(method + self.path) or answers.get(method + path)
        sent = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        first = answer.get("first") if answer else None
        if first:
            answer = first.pop(0)
        if answer and answer.get("forget"):
            tokens.clear()
        if method == "POST " and path == sessions and answer is None:
            sent = json.loads(sent)
            if f"{sent['UserName']}:{sent['Password']}" != login:
                return self.body(401, b"{}")
            place = f"{sessions}/{len(tokens) + 1}"
            token = f"to\"ken\\{len(tokens) + 1}"
            tokens[token] = place
            return self.body(201, b"{}", **{"X-AUTH-TOKEN": token, "Location": f"https://bmc.example{place}"})
        if path != "/redfish/v1/" and method != "POST " and not self.may():
            return self.body(401, b"{}")
        if method == "DELETE " and answer is None and path in tokens.values():
            for token in [token for token, place in tokens.items() if place == path]:
                del tokens[token]
            return self.body(204, b"")
        if answer is None:
            return self.body(404, b"{}")
        try:
            self.answer(answer, path, query)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    do_POST = do_DELETE = do_GET

    def answer(self, answer, path, query):
        if "drop" in answer:
            self.write_down(0)
            self.close_connection = True
            return
        if "redirect" in answer:
            return self.body(answer.get("status", 302), b"", Location=answer["redirect"])
        if "endless" in answer:
            first = int(urllib.parse.parse_qs(query).get("skip", ["0"])[0])
            end = first + answer["endless"]
            entry = {"EntryType": "SEL", "SensorType": "Fan"}
            entries = [{"@odata.id": f"{path}/{number}", **entry} for number in range(first, end)]
            page = {"Members": entries, "Members@odata.nextLink": f"{path}?skip={end}"}
            return self.body(200, json.dumps(page).encode())
        if "megabytes" in answer or "drip" in answer:
            self.write_down(200)
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
        body, headers = body.encode(), answer.get("headers", {})
        if "packed" in answer:
            body, headers = gzip.compress(body), {**headers, "Content-Encoding": answer["packed"]}
        chunked, cut = answer.get("chunked", False), answer.get("cut", 0)
        self.body(answer.get("status", 200), body, chunked, cut, **headers)


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
