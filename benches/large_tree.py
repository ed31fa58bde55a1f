#!/usr/bin/env python3
"""Measures directories with very many names: time, requests, and resident memory a name.

    benches/large_tree.py [--fetchfs target/release/fetchfs] [--names 1000000]

It serves index pages in nginx's form and listings of S3 from memory, mounts them, and prints a table. Needs /dev/fuse and
Python 3.9. docs/performance.md, "How cost grows", has the figures."""

import argparse
import multiprocessing
import os
import shutil
import socketserver
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

WIDE = 50  # directories of 100,000 names
DEEP = 100_000  # names beside each component of a deep path
KEYS = 100_000  # in a bucket


def rows(count):
    for number in range(count):
        name = "file-%011d" % number
        yield '<a href="%s">%s</a>%s 01-Jan-2024 00:00 %19d\r\n' % (name, name, " " * 34, 5)


def page(count, directories=()):
    for name in directories:
        yield '<a href="%s/">%s/</a> 01-Jan-2024 00:00 -\r\n' % (name, name)
    yield from rows(count)


def index(path, lines):
    head = "<html><head><title>Index of %s</title></head><body><h1>Index of %s</h1><hr><pre><a href=\"../\">../</a>\r\n"
    return (head % (path, path) + "".join(lines) + "</pre><hr></body></html>\r\n").encode()


def bucket(prefix, token):
    if prefix != "keys/":
        return b"<ListBucketResult><IsTruncated>false</IsTruncated><CommonPrefixes><Prefix>keys/</Prefix></CommonPrefixes></ListBucketResult>"
    first = int(token or 0)
    keys = range(first, min(first + 1000, KEYS))
    key = "<Contents><Key>keys/file-%011d</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>&quot;x&quot;</ETag><Size>5</Size></Contents>"
    more = first + 1000 < KEYS
    text = "".join(key % number for number in keys)
    next_page = "<IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken>" % (first + 1000)
    return (
        '<?xml version="1.0"?><ListBucketResult><Name>b</Name><EncodingType>url</EncodingType>'
        + (next_page if more else "<IsTruncated>false</IsTruncated>")
        + text
        + "</ListBucketResult>"
    ).encode()


class Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    pages = {}
    names = 1_000_000
    latency = 0.0
    rate = 0

    def body(self, path):
        if path not in self.pages:
            parts = [part for part in path.split("/") if part]
            if not parts:
                lines = page(0, ["one", "wide", "a"])
            elif parts[0] == "one":
                lines = rows(self.names)
            elif parts == ["wide"]:
                lines = page(0, ["d%02d" % number for number in range(WIDE)])
            elif parts[0] == "wide":
                lines = rows(100_000)
            else:
                below = {1: ["b"], 2: ["c"]}.get(len(parts), [])
                lines = page(DEEP, below)
            self.pages[path] = index(path, lines)
        return self.pages[path]

    def answer(self):
        self.count.value += 1
        time.sleep(self.latency)
        url = urlsplit(self.path)
        status, headers, body = 200, {"Content-Type": "text/html"}, b""
        if url.path.startswith("/bucket"):
            headers["Content-Type"] = "application/xml"
            query = parse_qs(url.query)
            body = bucket(*(query.get(name, [""])[0] for name in ("prefix", "continuation-token")))
        elif url.path.endswith("/"):
            body = self.body(url.path)
        elif url.path in ("/a", "/a/b", "/a/b/c"):
            status, headers["Location"] = 301, url.path + "/"
        elif url.path.rsplit("/", 1)[1].startswith("file-"):
            headers = {"Content-Type": "application/octet-stream", "ETag": '"x"'}
            body = b"12345"
            if "Range" in self.headers:
                first, last = self.headers["Range"].split("=")[1].split("-")
                first, last = int(first), min(int(last or 4), 4)
                status, headers["Content-Range"] = 206, "bytes %d-%d/5" % (first, last)
                body = body[first : last + 1]
        else:
            status = 404
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if not self.rate:
            self.wfile.write(body)
            return
        for at in range(0, len(body), 1 << 16):
            piece = body[at : at + (1 << 16)]
            self.wfile.write(piece)
            time.sleep(len(piece) / self.rate)

    do_GET = do_HEAD = answer

    def log_message(self, *_):
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True

    def handle_error(self, *_):
        pass


class Run:
    """A server in a process of its own, and a mount of it."""

    def __init__(self, options, source, latency=0.0, rate=0, more=()):
        self.count = multiprocessing.Value("L", 0)
        Site.count, Site.names, Site.latency, Site.rate = self.count, options.names, latency, rate
        server = Server(("127.0.0.1", 0), Site)
        self.port = server.server_address[1]
        self.server = multiprocessing.Process(target=server.serve_forever, daemon=True)
        self.server.start()
        server.server_close()
        self.home = tempfile.mkdtemp(prefix="large-tree-")
        self.root = os.path.join(self.home, "mnt")
        os.mkdir(self.root)
        command = [options.fetchfs, "mount", "--foreground", "--cache-dir", os.path.join(self.home, "cache")]
        command += ["--attr-ttl", "1h", "--read-timeout", "30m", *(word.format(port=self.port) for word in more)]
        command += [source.format(port=self.port), self.root]
        start = time.monotonic()
        self.daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not os.path.ismount(self.root):
            if self.daemon.poll() is not None:
                sys.exit("no mount: " + " ".join(command))
            time.sleep(0.01)
        self.mounted = time.monotonic() - start

    def memory(self, what="VmRSS"):
        for line in open("/proc/%d/status" % self.daemon.pid):
            if line.startswith(what + ":"):
                return int(line.split()[1]) * 1024

    def close(self):
        self.daemon.terminate()
        self.daemon.wait()
        self.server.terminate()
        shutil.rmtree(self.home)


def seconds(work):
    start = time.monotonic()
    work()
    return time.monotonic() - start


def shell(*words):
    subprocess.run(words, stdout=subprocess.DEVNULL, check=True)


def first_and_last(path):
    """Seconds until the first name of a directory, and until the last one, in one reading."""
    start = time.monotonic()
    with os.scandir(path) as entries:
        next(entries)
        first = time.monotonic() - start
        for _ in entries:
            pass
    return first, time.monotonic() - start


def row(what, time_taken, run, names, idle):
    used = run.memory()
    each = "%.0f bytes" % ((used - idle) / names) if names else ""
    print("| %s | %.2f s | %.0f MiB | %s | %d |" % (what, time_taken, used / 2**20, each, run.count.value), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fetchfs", default="target/release/fetchfs")
    parser.add_argument("--names", type=int, default=1_000_000)
    parser.add_argument("--only", action="store_true", help="stop after the one large directory")
    options = parser.parse_args()
    print("| step | time | resident | a name, without the daemon's own | requests |\n|---|---|---|---|---|")

    run = Run(options, "http://127.0.0.1:{port}/")
    idle, one = run.memory(), os.path.join(run.root, "one")
    row("mounted", run.mounted, run, 0, idle)
    first, last = first_and_last(one)
    row("one directory: first name", first, run, 0, idle)
    row("the last name", last, run, options.names, idle)
    row("`ls -f`", seconds(lambda: shell("ls", "-f", one)), run, options.names, idle)
    row("`ls -l`: the kernel knows all", seconds(lambda: shell("ls", "-l", one)), run, options.names, idle)
    print("| most at any time | | %.0f MiB | | |" % (run.memory("VmHWM") / 2**20), flush=True)
    run.close()

    if options.only:
        return
    run = Run(options, "http://127.0.0.1:{port}/wide/")
    idle = run.memory()
    taken = seconds(lambda: shell("find", run.root, "-name", "nothing"))
    row("`find` over %d directories of 100,000" % WIDE, taken, run, WIDE * 100_000, idle)
    run.close()

    run = Run(options, "http://127.0.0.1:{port}/", latency=0.05, rate=20_000_000)
    path = os.path.join(run.root, "a/b/c/file-%011d" % 50_000)
    taken = seconds(lambda: shell("cat", path))
    row("`cat a/b/c/file`, 100,000 names beside each, 50 ms and 20 MB/s", taken, run, 0, 0)
    run.close()

    s3 = ("--endpoint-url", "http://127.0.0.1:{port}", "--no-sign-request")
    run = Run(options, "s3://bucket/", more=s3)
    first, last = first_and_last(os.path.join(run.root, "keys"))
    row("a prefix of 100,000 keys in a bucket: first name", first, run, 0, 0)
    row("the last name", last, run, 0, 0)
    print("| most at any time | | %.0f MiB | | |" % (run.memory("VmHWM") / 2**20), flush=True)
    run.close()


if __name__ == "__main__":
    main()
