#!/usr/bin/env python3
"""A node whose disk fills up in the middle of a drop, is ended and started again, and gets room back.

usage: full_disk.py PROGRAM embedded|kafka. Needs root: the disk is a tmpfs of its own. It carries log and stores, or with
a broker in LIVEDROPS_KAFKA__BROKERS the stores. Ends with 1 where an order is lost, an answer does not say how to try
again, or the node does not come back by itself.
"""

import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid

# Enough for the 4 MB that RocksDB sets aside for each of 24 stores, too little for the 140 of the log's WAL: those it
# would fill first.
SMALL_DISK_BYTES = 128 * 1024 * 1024
# A few thousand orders.
LEFT_BYTES = 2 * 1024 * 1024
LARGE_DISK_BYTES = 1024 * 1024 * 1024
BUYING_SECONDS = 8
BUYERS = 8
PATIENCE_SECONDS = 60


class Node:
    """The program with its data on the small disk, without views."""

    def __init__(self, program, log, disk, keys):
        self.program, self.disk, self.process, self.url = program, disk, None, None
        self.environment = dict(
            os.environ,
            LIVEDROPS_AUTH__PUBLIC_KEYS=f"{keys}/public-key.pem",
            LIVEDROPS_AUTH__SIGNING_KEY=f"{keys}/signing-key.pem",
            LIVEDROPS_LISTEN__INTERNAL="none",
            LIVEDROPS_LOG__KIND=log,
            LIVEDROPS_DATA_DIR=f"{disk}/data",
            RUST_LOG="warn",
        )
        for name in ("LIVEDROPS_POSTGRES__URL", "LIVEDROPS_CLICKHOUSE__URL"):
            self.environment.pop(name, None)

    def run(self, *arguments):
        return subprocess.run([self.program, *arguments], env=self.environment, capture_output=True, text=True)

    def start(self, log):
        """False where it ends before it listens."""
        command = [self.program, "all", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.process.stdout.readline()
        self.url = "http://" + line.split("http://")[1].strip() if "http://" in line else None
        return self.url is not None

    def token(self, user, scope=""):
        return self.run("token", "--user", user, "--scope", scope).stdout.strip()

    def ask(self, method, path, token=None, body=None, key=None, wait=False):
        """Status and JSON of the answer; status 0 for none."""
        headers = {"content-type": "application/json"}
        headers |= {"authorization": f"Bearer {token}"} if token else {}
        headers |= {"idempotency-key": key} if key else {}
        headers |= {"prefer": "wait=20"} if wait else {}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, {}

    def order(self, drop, token, key, wait=True):
        return self.ask("POST", f"/drops/{drop}/orders", token, {"qty": 1}, key, wait)


def check(holds, what):
    print(("ok      " if holds else "FAILED  ") + what, flush=True)
    if not holds:
        sys.exit(1)


def until(what, attempt):
    """What the attempt gives, once it gives something."""
    started = time.monotonic()
    while time.monotonic() - started < PATIENCE_SECONDS:
        if (found := attempt()) is not None:
            return found
        time.sleep(0.2)
    check(False, what)


def schedule(node):
    creator = str(uuid.uuid4())
    body = {
        "productId": creator, "title": "Full disk", "startsAt": "2020-01-01T00:00:00Z",
        "endsAt": "2999-01-01T00:00:00Z", "stock": 1_000_000, "price": {"amount": 0, "currency": "EUR"},
    }
    token = node.token(creator, f"creator:{creator}:write")

    def scheduled():
        status, answer = node.ask("POST", f"/creators/{creator}/drops", token, body, "drop", wait=True)
        return answer["drop"]["id"] if status in (200, 201) else None

    # What RocksDB sets aside when a store is opened is gone for a moment, until it finds that there is not as much.
    return until("a drop is scheduled", scheduled)


def resize(disk, size):
    """Whether it could be done: not to less than what is taken."""
    command = ["mount", "-o", f"remount,size={size}", disk]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def leave(disk, size):
    """Takes away what is free of the disk but for so much."""

    def left():
        disk_now = os.statvfs(disk)
        taken = (disk_now.f_blocks - disk_now.f_bfree) * disk_now.f_frsize
        return resize(disk, taken + size) or None  # more may be taken by now

    until("the disk is made smaller", left)


def buy(node, drop, token, name, deadline):
    """Orders one after the other: those that were acknowledged, and the other answers."""
    acknowledged, others = [], []
    number = 0
    while time.monotonic() < deadline:
        number += 1
        status, answer = node.order(drop, token, f"{name}-{number}", wait=False)
        if status == 202:
            acknowledged.append(answer["order"]["id"])
        else:
            others.append((status, answer.get("retry")))
    return acknowledged, others


def until_served(node, drop, token, key):
    """Seconds until an order is decided."""
    started = time.monotonic()
    until("orders are decided", lambda: node.order(drop, token, key)[0] in (200, 201) or None)
    return time.monotonic() - started


def run(program, kind, folder, disk):
    node = Node(program, kind, disk, f"{folder}/keys")
    check(node.run("keys", "--out", f"{folder}/keys").returncode == 0, "keys are written")
    if kind == "kafka":
        check(node.run("topics", "apply").returncode == 0, "the topics are there")
    log = open(f"{folder}/node.log", "w")
    try:
        check(node.start(log), "the node listens")
        drop = schedule(node)
        token = node.token(str(uuid.uuid4()))
        until_served(node, drop, token, "before")
        (full_log if kind == "embedded" else full_stores)(node, disk, log, drop, token)
    finally:
        node.process.kill()
        node.process.wait()
    lines = open(f"{folder}/node.log").read().splitlines()
    check(len(lines) < 200, f"the node wrote {len(lines)} lines about it")


def full_log(node, disk, log, drop, token):
    """Neither log nor stores can be written."""
    leave(disk, LEFT_BYTES)
    deadline = time.monotonic() + BUYING_SECONDS
    with concurrent.futures.ThreadPoolExecutor(BUYERS) as pool:
        buyers = [pool.submit(buy, node, drop, token, str(number), deadline) for number in range(BUYERS)]
        bought = [buyer.result() for buyer in buyers]
    acknowledged = [order for orders, _ in bought for order in orders]
    others = [answer for _, answers in bought for answer in answers]
    check(acknowledged and others, f"{len(acknowledged)} orders are acknowledged, {len(others)} are not")
    # Whatever was being written when the disk was full first may be in the log.
    check(set(others) <= {(503, "safe"), (504, "same-key")}, "who is not is told how to try again")
    check(others.count((504, "same-key")) <= BUYERS, "and but for the first, that nothing was written")
    check(node.ask("GET", "/readyz")[0] == 503, "the node says that it is not ready")

    check(resize(disk, LARGE_DISK_BYTES), "the disk gets room")
    check(True, f"with room again, an order is decided after {until_served(node, drop, token, 'room'):.1f} s")

    leave(disk, 0)
    node.process.send_signal(signal.SIGKILL)
    node.process.wait()
    if node.start(log):
        status, answer = node.order(drop, token, "started-full")
        check(status == 503 and answer["retry"] == "safe", "started on a full disk it takes no orders")
    else:
        check(node.process.wait() != 0, "started on a full disk it ends with an error")
    check(resize(disk, LARGE_DISK_BYTES), "the disk gets room")
    if node.process.poll() is not None:
        check(node.start(log), "the node listens")
    check(True, f"with room again, an order is decided after {until_served(node, drop, token, 'started'):.1f} s")
    prove(node, token, acknowledged)


def full_stores(node, disk, log, drop, token):
    """The broker has room: what is decided lies in the log, stores are folded from it when they can be written again."""
    leave(disk, 0)
    decided = [node.order(drop, token, f"full-{number}") for number in range(BUYERS)]
    check(all(status == 201 for status, _ in decided), "orders are decided while stores cannot be written")
    node.process.terminate()
    check(node.process.wait(PATIENCE_SECONDS) == 0, "the node ends, its stores unwritten")

    leave(disk, 0)
    check(node.start(log), "started on a full disk the node listens")
    accepted = [node.order(drop, token, f"started-{number}", wait=False) for number in range(BUYERS)]
    check(all(status == 202 for status, _ in accepted), "it takes orders, which wait in the log")

    def stalled():
        status, answer = node.ask("GET", "/readyz")
        reasons = [str(partition["reason"]) for partition in answer.get("partitions", [])]
        return True if status == 503 and any("No space left" in reason for reason in reasons) else None

    check(until("the node is not ready", stalled), "the node says that it is not ready, and why")
    check(resize(disk, LARGE_DISK_BYTES), "the disk gets room")
    check(True, f"with room again, an order is decided after {until_served(node, drop, token, 'room'):.1f} s")
    prove(node, token, [answer["order"]["id"] for _, answer in decided + accepted])


def prove(node, token, acknowledged):
    """Ends the node."""
    shown = (node.ask("GET", f"/orders/{order}?waitMs=1000", token)[0] for order in acknowledged)
    check(all(status == 200 for status in shown), f"all {len(acknowledged)} acknowledged orders are there")
    node.process.terminate()
    check(node.process.wait(PATIENCE_SECONDS) == 0, "the node ends")
    audit = node.run("audit")
    proof = next((line for line in audit.stdout.splitlines() if line.startswith("proof")), audit.stderr)
    check(audit.returncode == 0, proof)


def main():
    with tempfile.TemporaryDirectory() as folder:
        disk = f"{folder}/disk"
        os.mkdir(disk)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "tmpfs", disk], check=True)
        try:
            run(sys.argv[1], sys.argv[2], folder, disk)
        finally:
            subprocess.run(["umount", disk], check=True)


if __name__ == "__main__":
    main()
