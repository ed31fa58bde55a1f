#!/usr/bin/env python3
"""Measures many mounts of one file: without a tier, with one, and rclone through the same nginx.

    benches/fleet.py [--fetchfs target/release/fetchfs] [--rclone rclone] [--mounts 1,4,16] [--mib 128] [--rate 20]

Each mount has a cache of its own, as a machine has. An nginx is the origin; another, with the configuration that `fetchfs tier
config` prints, is the tier. All mounts read the file at once, from beginning to end, and each reading is compared with it. The
table has the time until the last has ended, and what the origin has sent. Needs root or fuse3, nginx, and Python 3.9.
docs/fleet.md has the figures."""

import argparse
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

ORIGIN = """
daemon off; pid {home}/origin.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  log_format bytes '$body_bytes_sent'; access_log {home}/origin.log bytes;
  client_body_temp_path {home}/temp; proxy_temp_path {home}/temp; fastcgi_temp_path {home}/temp;
  uwsgi_temp_path {home}/temp; scgi_temp_path {home}/temp;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {home}/site; autoindex on; limit_rate {rate}; }}
}}
"""


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_for(what, is_there, process):
    deadline = time.monotonic() + 60
    while not is_there():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit("fleet: %s did not start" % what)
        time.sleep(0.02)


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Fleet:
    """A file on an origin, and a tier in front of it."""

    def __init__(self, options):
        self.options = options
        self.home = tempfile.mkdtemp(prefix="fleet-")
        os.chmod(self.home, 0o755)
        for name in ("site", "temp", "tier"):
            os.mkdir(os.path.join(self.home, name))
        path = os.path.join(self.home, "site", "file")
        digest = hashlib.sha256()
        with open(path, "wb") as file:
            for _ in range(options.mib):
                piece = os.urandom(1 << 20)
                digest.update(piece)
                file.write(piece)
        self.size, self.digest = options.mib << 20, digest.hexdigest()
        self.origin = "127.0.0.1:%d" % free_port()
        port = self.origin.split(":")[1]
        rate = "%dk" % (options.rate * 1000 * 1000 // 1024) if options.rate else "0"
        self.servers = [self.nginx("origin", ORIGIN.format(home=self.home, port=port, rate=rate))]
        self.tier = None

    def nginx(self, name, config):
        path = os.path.join(self.home, name + ".conf")
        with open(path, "w") as file:
            file.write(config)
        port = int(re.search(r"listen [^;]*?:(\d+)", config)[1])
        server = subprocess.Popen(["nginx", "-e", "stderr", "-c", path], stderr=subprocess.DEVNULL)
        wait_for(name, lambda: answers(port), server)
        return server

    def new_tier(self):
        """A tier whose cache is empty. Returns its address."""
        self.end_tier()
        shutil.rmtree(os.path.join(self.home, "tier"))
        os.mkdir(os.path.join(self.home, "tier"))
        address = "127.0.0.1:%d" % free_port()
        command = [self.options.fetchfs, "tier", "config", "--listen", address, "--cache-size", "8G"]
        command += ["--cache-dir", os.path.join(self.home, "tier"), "--allow", "http://" + self.origin]
        config = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self.tier = self.nginx("tier", config)
        return address

    def end_tier(self):
        if self.tier:
            self.tier.terminate()
            self.tier.wait()
            self.tier = None

    def sent(self):
        with open(os.path.join(self.home, "origin.log")) as log:
            return sum(int(line) for line in log)

    def measure(self, what, count, command_of):
        """`count` mounts read the file at once."""
        mounts = [self.mount(number, command_of) for number in range(count)]
        before, digests = self.sent(), [None] * count
        barrier = threading.Barrier(count + 1)

        def read(number):
            barrier.wait()
            reader = subprocess.run(["sha256sum", os.path.join(mounts[number][1], "file")], capture_output=True, text=True)
            digests[number] = reader.stdout.split(" ")[0]

        readers = [threading.Thread(target=read, args=(number,)) for number in range(count)]
        for reader in readers:
            reader.start()
        barrier.wait()
        start = time.monotonic()
        for reader in readers:
            reader.join()
        took = time.monotonic() - start
        for daemon, _, home in mounts:
            daemon.terminate()
            daemon.wait()
            shutil.rmtree(home)
        wrong = sum(digest != self.digest for digest in digests)
        time.sleep(0.2)  # nginx writes a request's line when its connection is done
        ratio = (self.sent() - before) / self.size
        note = " | %d readings failed or were wrong" % wrong if wrong else " |"
        print("| %d | %s | %.2f s | %.2f ×%s" % (count, what, took, ratio, note), flush=True)

    def mount(self, number, command_of):
        home = tempfile.mkdtemp(prefix="fleet-mount-")
        root = os.path.join(home, "mnt")
        os.mkdir(root)
        command = command_of(os.path.join(home, "cache"), root)
        daemon = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("mount %d" % number, lambda: os.path.ismount(root), daemon)
        return daemon, root, home

    def close(self):
        self.end_tier()
        for server in self.servers:
            server.terminate()
            server.wait()
        shutil.rmtree(self.home)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fetchfs", default="target/release/fetchfs", help="the program to measure")
    parser.add_argument("--rclone", default=shutil.which("rclone"), help="rclone, to compare with")
    parser.add_argument("--mounts", default="1,4,16", help="numbers of mounts")
    parser.add_argument("--mib", type=int, default=128, help="size of the file")
    parser.add_argument("--rate", type=int, default=20, help="MB/s that the origin sends on a connection; 0: no limit")
    options = parser.parse_args()
    fleet = Fleet(options)
    origin = "http://%s/" % fleet.origin

    def fetchfs(*more):
        return lambda cache, root: [options.fetchfs, "mount", "-f", "--cache-dir", cache, *more, origin, root]

    def rclone(url):
        flags = ["--vfs-cache-mode", "full", "--read-only"]
        return lambda cache, root: [options.rclone, "mount", *flags, "--cache-dir", cache, ":http,url='%s':" % url, root]

    try:
        print("| mounts | how | time | from the origin | |\n|---|---|---|---|---|")
        for count in map(int, options.mounts.split(",")):
            fleet.measure("fetchfs", count, fetchfs())
            tier = fleet.new_tier()
            fleet.measure("fetchfs, empty tier", count, fetchfs("--tier", "http://" + tier))
            fleet.measure("fetchfs, tier that has the file", count, fetchfs("--tier", "http://" + tier))
            if options.rclone:
                fleet.measure("rclone", count, rclone(origin))
                tier = fleet.new_tier()
                through = "http://%s/http/%s/" % (tier, fleet.origin)
                fleet.measure("rclone through an empty tier", count, rclone(through))
                fleet.measure("rclone through a tier that has the file", count, rclone(through))
    finally:
        fleet.close()


if __name__ == "__main__":
    main()
