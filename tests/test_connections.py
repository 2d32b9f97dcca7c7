"""The production server under a siege of connections: slow, silent, half-sent, too long, gone. Others are answered."""

from __future__ import annotations

import json
import re
import select
import signal
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from accounts.conf import MAX_BODY
from backend.front import MAX_WAITING, raise_descriptor_limit
from drills.siege import (
    FLOODERS,
    HALF_STREAMS,
    SILENT,
    Connection,
    content_type_bomb,
    cookie_bomb,
    flood,
    form_with_a_file,
    half_sent,
    half_sent_chunks,
    head,
    post,
    stand,
    table,
)
from harness.deployment import (
    CROWD,
    HOST,
    PATIENCE,
    PROXIED,
    REQUEST,
    Running,
    Site,
    ask,
    free_port,
    running,
    site_in,
    wait_until,
)

pytestmark = pytest.mark.processes

HONEST_SECONDS = 25
"""How long others wait for their answers: far longer than they should, and not until a siege is over by itself."""
JSON = b'{"query": "{ __typename }"}'
ANSWER = b'{"data": {"__typename": "Query"}}'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Iterator[Site]:
    """A deployment whose temporary files would lie in a folder of their own."""
    folder = tmp_path_factory.mktemp("besieged")
    (folder / "tmp").mkdir()
    with site_in(folder, prepared, TMPDIR=str(folder / "tmp")) as site:
        yield site


@pytest.fixture(scope="module")
def server(site: Site) -> Iterator[Running]:
    raise_descriptor_limit()
    with site.serving() as server:
        yield server


@pytest.fixture
def lonely(tmp_path: Path, prepared: Path) -> Iterator[Site]:
    """A deployment whose one process answers with one thread."""
    with site_in(tmp_path, prepared, THREADS="1", MAIL_DISPATCH="none") as site:
        yield site


@contextmanager
def locked(site: Site) -> Iterator[None]:
    """Keep everybody else from writing, so that requests for a reset take as long as this lasts."""
    with closing(sqlite3.connect(site.folder / "db.sqlite3", isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


def rows(site: Site) -> int:
    with closing(sqlite3.connect(site.folder / "db.sqlite3")) as database:
        return int(database.execute("SELECT count(*) FROM account_recovery_forgetpassword").fetchone()[0])


def others_are_answered(server: Running) -> None:
    """An honest page, a query and a mutation, on connections of their own, often enough to meet each worker."""
    mutation = {"query": REQUEST, "variables": {"input": {"email": "nobody@example.com"}}}
    for _ in range(4):
        page = requests.get(f"{server.url}/health/", headers=PROXIED, timeout=HONEST_SECONDS)
        assert page.status_code == 200
        answer = requests.post(f"{server.url}/graphql/", JSON, headers=as_json(), timeout=HONEST_SECONDS)
        assert (answer.status_code, answer.content) == (200, ANSWER)
        asked = requests.post(f"{server.url}/graphql/", json=mutation, headers=PROXIED, timeout=HONEST_SECONDS)
        assert asked.json()["data"]["requestPasswordReset"]


def as_json() -> dict[str, str]:
    return {**PROXIED, "Content-Type": "application/json"}


def chunks(*pieces: bytes) -> Iterator[bytes]:
    """A body without a length."""
    yield from pieces


# --- Others are answered while ---------------------------------------------------------------------------------------


def test_bodies_are_half_sent(server: Running) -> None:
    """They take no thread, and each is told after ten seconds that it is too slow."""
    with ExitStack() as stack:
        siege = [stack.enter_context(Connection(server.port, half_sent())) for _ in range(100)]
        others_are_answered(server)
        assert {connection.status() for connection in siege} == {408}
        assert all(connection.ended() for connection in siege)


def test_chunks_are_half_sent(server: Running) -> None:
    with ExitStack() as stack:
        siege = [stack.enter_context(Connection(server.port, half_sent_chunks())) for _ in range(40)]
        others_are_answered(server)
        assert {connection.status() for connection in siege} == {408}


def test_connections_are_silent(server: Running) -> None:
    """They end after five seconds."""
    with ExitStack() as stack:
        siege = [stack.enter_context(Connection(server.port)) for _ in range(SILENT)]
        others_are_answered(server)
        assert all(connection.ended() for connection in siege)


def test_headers_are_half_sent(server: Running) -> None:
    with ExitStack() as stack:
        siege = [stack.enter_context(Connection(server.port, b"GET / HTTP/1.1\r\nHost: ")) for _ in range(100)]
        others_are_answered(server)
        assert all(connection.ended() for connection in siege)


def test_http_2_is_spoken_in_the_clear(server: Running) -> None:
    """It is not served: four such connections with a dozen half-sent streams each would do."""
    with ExitStack() as stack:
        siege = [stack.enter_context(Connection(server.port, HALF_STREAMS)) for _ in range(8)]
        others_are_answered(server)
        assert all(connection.ended() for connection in siege)


def test_a_big_file_is_read_slowly(site: Site, server: Running) -> None:
    path = max((site.folder / "static").rglob("*.js"), key=lambda file: file.stat().st_size)
    url = f"/static/{path.relative_to(site.folder / 'static')}".encode()
    with ExitStack() as stack:
        siege = [
            stack.enter_context(Connection(server.port, head(b"GET", url) + b"\r\n", room=4096)) for _ in range(60)
        ]
        others_are_answered(server)
        assert siege[0].status() == 200


@pytest.mark.parametrize(
    ("bomb", "status"),
    [
        (cookie_bomb(60_000), 431),
        (cookie_bomb(7_000), 431),
        (content_type_bomb(60_000), 431),
        (content_type_bomb(7_000), 415),
    ],
    ids=["long Cookie", "Cookie", "long Content-Type", "Content-Type"],
)
def test_headers_are_bombs(server: Running, bomb: bytes, status: int) -> None:
    with flood(server.port, bomb, clients=16) as statuses:
        others_are_answered(server)
    assert statuses == {status}


def test_forms_with_files_flood_in_and_nothing_is_written(site: Site, server: Running) -> None:
    """Django reads a form before it refuses it, to find the token that goes with a cookie."""
    with flood(server.port, form_with_a_file(), FLOODERS) as statuses:
        others_are_answered(server)
        for path in (b"/reset/", b"/admin/login/", b"/graphql/", b"/nothing/"):
            with Connection(server.port, form_with_a_file(path)) as connection:
                assert connection.status() == 413
        # Some would be kept for a moment only, and no test sees a moment: all that was ever made is looked for.
        assert not files_in(site, server)
    assert statuses == {413}


def files_in(site: Site, server: Running) -> list[str]:
    """What lies in the folder for temporary files, and what was deleted from it and is still held open."""
    held = [link for pid in server.workers for link in Path(f"/proc/{pid}/fd").iterdir()]
    links = []
    for link in held:
        try:
            links.append(str(link.readlink()))
        except FileNotFoundError:
            continue
    return [str(path) for path in (site.folder / "tmp").iterdir()] + [
        link for link in links if link.startswith(str(site.folder / "tmp"))
    ]


def test_many_requests_wait_for_a_thread(lonely: Site) -> None:
    """As many as may wait do, and the others are told to come again."""
    raise_descriptor_limit()
    with lonely.serving(workers=1) as server, ExitStack() as stack:
        with locked(lonely):
            whole = request_for(CROWD[0])
            crowd = [stack.enter_context(Connection(server.port, whole)) for _ in range(1 + MAX_WAITING + 20)]
            refused = answered(crowd, 20)
            assert {connection.status() for connection in refused} == {503}
            assert "retry-after: 2\r\n" in refused[0].answer()
        assert {connection.status() for connection in crowd if connection not in refused} == {200}
        assert len(refused) == 20


def answered(crowd: Sequence[Connection], count: int) -> list[Connection]:
    """Wait until so many of them have an answer; which ones they are is the server's to say."""
    by_socket = {connection.socket: connection for connection in crowd}
    ready: dict[Any, Any] = {}

    def enough() -> bool:
        waiting = select.poll()
        for connection in by_socket:
            waiting.register(connection, select.POLLIN)
        ready.update({number: None for number, _ in waiting.poll(100)})
        return len(ready) >= count

    wait_until(enough)
    return [connection for connection in crowd if connection.socket.fileno() in ready]


def test_the_drill_counts_who_is_answered_in_a_siege(server: Running) -> None:
    held = stand(server, "half-sent bodies", requests_each=3)
    assert (held.asked, held.unanswered) == (6, 0)
    nobody = Running(server.process, free_port(), server.log)
    missed = stand(nobody, "none", requests_each=3)
    assert (missed.asked, missed.unanswered) == (6, 6)
    assert "| half-sent bodies |     6 |        6 |" in table([held, missed])


# --- What is read, and as what ---------------------------------------------------------------------------------------


def test_a_body_without_a_length_is_read(server: Running) -> None:
    answer = requests.post(f"{server.url}/graphql/", chunks(JSON[:5], JSON[5:]), headers=as_json(), timeout=30)
    assert (answer.status_code, answer.content) == (200, ANSWER)


def test_a_form_without_a_length_is_read(server: Running) -> None:
    page = requests.get(f"{server.url}/admin/login/", headers=PROXIED, timeout=30)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert token
    form = f"csrfmiddlewaretoken={token[1]}&username=ada&password=wrong".encode()
    headers = {
        **PROXIED,
        "Content-Type": "application/x-www-form-urlencoded",
        "Referer": f"https://{HOST}/admin/login/",
        "Cookie": f"__Host-csrftoken={page.cookies['__Host-csrftoken']}",
    }
    answer = requests.post(f"{server.url}/admin/login/", chunks(form[:9], form[9:]), headers=headers, timeout=30)
    assert answer.status_code == 200
    assert "Please enter the correct username and password" in answer.text


@pytest.mark.parametrize("path", ["/graphql/", "/health/", "/nothing/", "/static/account_recovery/reset.css"])
def test_a_body_that_is_too_long_is_refused_wherever_it_goes(server: Running, path: str) -> None:
    long = b"x" * (MAX_BODY + 1)
    for body in (long, chunks(long)):
        answer = requests.post(server.url + path, body, headers=as_json(), timeout=30)
        assert answer.status_code == 413
        assert answer.headers["Connection"] == "close"
        assert answer.json() == {"errors": [{"message": f"The body may have {MAX_BODY} bytes at most."}]}


def test_a_refusal_needs_neither_https_nor_a_known_host(server: Running) -> None:
    with Connection(server.port, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n") as connection:
        assert connection.status() == 413


def test_a_refusal_can_be_read_by_a_frontend(tmp_path: Path, prepared: Path) -> None:
    origin = "https://app.example.com"
    with site_in(tmp_path, prepared, CORS_ALLOWED_ORIGINS=origin) as site, site.serving() as server:
        headers = {**as_json(), "Origin": origin}
        answer = requests.post(f"{server.url}/graphql/", b"x" * 70_000, headers=headers, timeout=30)
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (413, origin)


def test_a_body_that_is_too_long_is_not_waited_for(server: Running) -> None:
    with Connection(server.port, post(b"Content-Length: 10000000", b"Expect: 100-continue")) as connection:
        assert connection.status() == 413


def test_cookies_are_the_admins_alone(server: Running) -> None:
    headers = {**PROXIED, "Cookie": "a=" + "x" * 5_000}
    statuses = {
        path: requests.get(server.url + path, headers=headers, timeout=30).status_code
        for path in ("/health/", "/reset/", "/graphql/?query={__typename}", "/admin/login/")
    }
    assert list(statuses.values()) == [200, 200, 200, 431]


@pytest.mark.parametrize("forged", ["X_Forwarded_For", "X-Forwarded_For", "x_forwarded-for"])
def test_a_client_cannot_make_up_where_it_comes_from(server: Running, forged: str) -> None:
    for headers in ({forged: "198.51.100.66", **PROXIED}, {**PROXIED, forged: "198.51.100.66"}):
        requests.get(f"{server.url}/nothing/", headers=headers, timeout=30)
    log = server.log.read_text()
    assert '"client": "203.0.113.7"' in log
    assert "198.51.100.66" not in log


@pytest.fixture(scope="module")
def echoes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The same application behind granian's WSGI, and behind the front."""
    folder = tmp_path_factory.mktemp("echoes")
    environment = {"DJANGO_SETTINGS_MODULE": "tests.settings", "PATH": "/usr/bin:/bin"}
    with ExitStack() as stack:
        ports = []
        for interface, target in (("wsgi", "tests.echo:wsgi"), ("asgi", "tests.echo:application")):
            port = free_port()
            command = [str(Path(sys.executable).parent / "granian"), "--interface", interface, "--http", "1"]
            command += ["--no-ws", "--port", str(port), target]
            stack.enter_context(running(command, port, environment, folder / f"{interface}.log"))
            ports.append(port)
        yield ports[0], ports[1]


TARGETS = [
    *(b"/", b"//", b"///a//b/", b"/a/../b/./c", b"/a;b=c/d", b"/%2e%2e/%2F", b"/a%20b+c", b"/%", b"/%4", b"/%zz%41"),
    *(b"/%C3%A9", b"/%c3", b"/%FF%fe", b"/%00", b"/%0d%0aX: y", b"/%25%32%35", b"/\xc3\xa9", b"/\xff", b"/%E2%80%AE"),
    *(b"/?", b"/?a=b&a=c", b"/?%00%FF", b"/?q=\xc3\xa9", b"/?a?b?c", b"/a?b#c", b"/%3Fa=b", b"/%23token=x", b"/{}|^`"),
    *(b"http://elsewhere.example/a%20b?c", b"*", b"/" + b"%41" * 3000, b"/\x7f", b'/"<>"', b"/\\..\\a", b"/~a!$&'()*,"),
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: repr(target[:20]))
def test_a_path_is_told_as_wsgi_tells_it(echoes: tuple[int, int], target: bytes) -> None:
    """Or refused as it is there, by the server itself."""
    request = b"OPTIONS " + target + b" HTTP/1.1\r\nHost: a\r\nX-A: b\r\nx-a: c\r\nContent-Length: 2\r\n"
    request += b"Content-Type: a/b\r\nConnection: close\r\n\r\nhi"
    by_wsgi, by_front = (told(port, request) for port in echoes)
    if by_wsgi["status"] == 200:
        for key in ("SERVER_PORT", "PATH"):
            by_wsgi.pop(key, ""), by_front.pop(key, "")
        assert {key: by_wsgi[key] for key in by_front} == by_front
    assert by_front["status"] == by_wsgi["status"]


def told(port: int, request: bytes) -> dict[str, Any]:
    with Connection(port, request) as connection:
        status, body = connection.status(), connection.answer().partition("\r\n\r\n")[2]
    return {"status": status, **(json.loads(body) if status == 200 else {})}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: repr(target[:20]))
def test_no_path_is_an_error_of_the_server(server: Running, target: bytes) -> None:
    for place in (target, b"/admin" + target, b"/static" + target, b"/graphql/" + target):
        with Connection(server.port, head(b"GET", place, b"Connection: close") + b"\r\n") as connection:
            assert 0 < connection.status() < 500


HEADERS = [
    *(b"Accept", b"Accept-Encoding", b"Accept-Language", b"Authorization", b"Content-Encoding", b"Content-Type"),
    *(b"Cookie", b"Host", b"If-Modified-Since", b"If-None-Match", b"Origin", b"Range", b"Referer", b"User-Agent"),
    *(b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Proto", b"X-Request-ID", b"Access-Control-Request-Method"),
    *(
        b"Expect",
        b"TE",
        b"Upgrade",
        b"Connection",
        b"Proxy-Connection",
        b"Transfer-Encoding",
        b"X-HTTP-Method-Override",
    ),
]
ODD = [
    b"",
    b"\xff\xfe",
    b"\xc3\xa9",
    b"http://[",
    b"\xb2",
    b"bytes=\xb2-",
    b'a, b\t;="',
    b"=?utf-8?q?=00?=",
    b"9" * 5000,
]


@pytest.mark.parametrize("name", HEADERS, ids=bytes.decode)
def test_no_header_is_an_error_of_the_server(server: Running, name: bytes) -> None:
    for value in ODD:
        for line in (
            b"GET /static/account_recovery/reset.css",
            b"GET /admin/login/",
            b"POST /graphql/",
            b"OPTIONS /reset/",
        ):
            method, _, path = line.partition(b" ")
            with Connection(server.port, head(method, path, name + b": " + value, host=name != b"Host")) as connection:
                connection.socket.sendall(b"Connection: close\r\n\r\n")
                assert 0 < connection.status() < 500, (line, value)


def test_a_range_of_a_file_and_its_head_and_what_is_known_already(site: Site, server: Running) -> None:
    path = max((site.folder / "static").rglob("*.js"), key=lambda file: file.stat().st_size)
    as_it_is = {**PROXIED, "Accept-Encoding": "identity"}
    url, content = f"{server.url}/static/{path.relative_to(site.folder / 'static')}", path.read_bytes()
    assert requests.get(url, headers=as_it_is, timeout=30).content == content
    part = requests.get(url, headers={**as_it_is, "Range": "bytes=10-99999"}, timeout=30)
    assert (part.status_code, part.content) == (206, content[10:100_000])
    there = requests.head(url, headers=as_it_is, timeout=30)
    assert (there.status_code, there.content, there.headers["Content-Length"]) == (200, b"", str(len(content)))
    known = requests.get(url, headers={**as_it_is, "If-None-Match": there.headers["ETag"]}, timeout=30)
    assert (known.status_code, known.content) == (304, b"")


# --- How it ends -----------------------------------------------------------------------------------------------------


def request_for(email: str, *lines: bytes) -> bytes:
    body = json.dumps({"query": REQUEST, "variables": {"input": {"email": email}}}).encode()
    return post(b"Content-Length: %d" % len(body), *lines) + body


@contextmanager
def asking(server: Running, email: str) -> Iterator[Connection]:
    """A request that the server has surely begun to read, for it asked for the body."""
    lines, blank, body = request_for(email, b"Expect: 100-continue").partition(b"\r\n\r\n")
    with Connection(server.port, lines + blank) as connection:
        assert connection.interim() == 100
        connection.socket.sendall(body)
        yield connection


def test_what_was_accepted_is_answered_before_the_server_ends(lonely: Site) -> None:
    with lonely.serving(workers=1) as server, ExitStack() as stack:
        with locked(lonely):
            asked = [stack.enter_context(asking(server, email)) for email in CROWD]
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "Stopping worker-1" in server.log.read_text())
        assert {connection.status() for connection in asked} == {200}
        assert server.process.wait(PATIENCE) == 0
    assert rows(lonely) == len(CROWD)


def test_a_request_whose_client_has_left_is_not_run(lonely: Site) -> None:
    with lonely.serving(workers=1) as server, ExitStack() as stack:
        with locked(lonely):
            first = stack.enter_context(asking(server, CROWD[0]))
            wait_until(lambda: uses_the_database(server))
            with asking(server, CROWD[1]) as second:
                port = second.socket.getsockname()[1]
            wait_until(lambda: port not in peers(server))
            # What the event loop has heard of before this, it has dealt with.
            refused = stack.enter_context(Connection(server.port, post(b"Content-Length: 70000")))
            assert refused.status() == 413
        assert first.status() == 200
        ask(server, REQUEST, input={"email": CROWD[2]})
        assert '"level": "error"' not in server.log.read_text()
    assert rows(lonely) == 2


def uses_the_database(server: Running) -> bool:
    """Whether a request is at work: the first one connects."""
    return any(file.path.endswith("db.sqlite3") for pid in server.workers for file in psutil.Process(pid).open_files())


def peers(server: Running) -> set[int]:
    """The ports of the clients that the server is connected to, whether they are there or gone."""
    found = [each for pid in server.workers for each in psutil.Process(pid).net_connections("tcp")]
    return {each.raddr.port for each in found if each.raddr}
