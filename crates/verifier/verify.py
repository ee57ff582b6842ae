#!/usr/bin/env python3
"""A second verifier of exported audit chains, by FORMAT.md alone: it shares no code with the first.

    verify.py EXPORT [CHECKPOINT] [KEY]

Needs nothing but Python. With the package `cryptography` and a KEY (name+hash+base64) the checkpoint's signature
is checked too; otherwise the answer says that it was not. Exit codes: 0 verified, 7 something does not fit, 9 no checkpoint.
"""
import base64, hashlib, json, re, sys

LINE_MAX, CONTENT_MAX, INTEGER_MAX = 64 * 1024 + 128, 64 * 1024, 2**53 - 1
MEMBERS = ["actor", "at", "body", "job", "kind", "seq", "tag"]
END = re.compile(rb'\{"end":\{"hash":"([0-9a-f]{64})","size":(0|[1-9][0-9]*)\}\}')


class Fault(Exception):
    def __init__(self, kind, line=None, what=""):
        self.kind, self.line, self.what = kind, line, what


def sha256(data):
    return hashlib.sha256(data).digest()


def canonical(value, depth=0):
    """RFC 8785, integers only."""
    if depth > 64 or isinstance(value, float):
        raise ValueError
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        if abs(value) > INTEGER_MAX:
            raise ValueError
        return str(value)
    if isinstance(value, list):
        return "[" + ",".join(canonical(one, depth + 1) for one in value) + "]"
    names = sorted(value, key=lambda name: name.encode("utf-16-be"))
    return "{" + ",".join(canonical(n) + ":" + canonical(value[n], depth + 1) for n in names) + "}"


def entry(line):
    """The content, the hash and the number of an entry's line; None if it is no entry."""
    match = re.fullmatch(rb'\{"content":(.*),"hash":"([0-9a-f]{64})"\}', line, re.DOTALL)
    if not match or len(match[1]) > CONTENT_MAX:
        return None
    try:
        value = json.loads(match[1].decode())
        if canonical(value).encode() != match[1] or list(value) != MEMBERS or value["tag"] != "tenure.audit.v1":
            return None
    except (ValueError, RecursionError, AttributeError):
        return None
    seq = value["seq"]
    if type(seq) is not int or seq < 1 or not isinstance(value["body"], dict):
        return None
    return match[1], bytes.fromhex(match[2].decode()), seq


def push(peaks, hash):
    """Adds a leaf to the RFC 6962 tree, kept as the roots of its perfect parts with their sizes."""
    peaks.append((1, sha256(b"\0" + hash)))
    while len(peaks) > 1 and peaks[-1][0] == peaks[-2][0]:
        (size, right), (_, left) = peaks.pop(), peaks.pop()
        peaks.append((2 * size, sha256(b"\1" + left + right)))


def root(peaks):
    if not peaks:
        return sha256(b"")
    top = peaks[-1][1]
    for _, left in reversed(peaks[:-1]):
        top = sha256(b"\1" + left + top)
    return top


def checkpoint(path, key):
    text, _, signed = open(path, encoding="utf-8").read().rpartition("\n\n")
    match = re.fullmatch(r"(.+)\n(0|[1-9][0-9]*)\n(\S{44})\nhead (\S{44})\nat (\S+)", text)
    if not match or not signed.endswith("\n"):
        raise Fault("checkpoint", what="malformed")
    checked = check_signature(text + "\n", signed, key) if key else "not checked"
    decode = lambda hash: base64.b64decode(hash, validate=True)
    return match[1], int(match[2]), decode(match[3]), decode(match[4]), checked


def check_signature(text, signed, key):
    name, hash, encoded = key.split("+", 2)
    public = base64.b64decode(encoded)[1:]
    if sha256(name.encode() + b"\n\1" + public)[:4].hex() != hash:
        raise Fault("checkpoint", what="bad key")
    lines = [line.split(" ") for line in signed.splitlines()]
    found = [base64.b64decode(line[2]) for line in lines if len(line) == 3 and line[:2] == ["\u2014", name]]
    found = [signature[4:] for signature in found if signature[:4].hex() == hash]
    if not found:
        raise Fault("checkpoint", what="not signed by this key")
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return "not checked"
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(found[0], text.encode())
    except InvalidSignature:
        raise Fault("checkpoint", what="bad signature")
    return "checked"


def lines(file):
    number = 0
    while line := file.readline(LINE_MAX + 1):
        number += 1
        if line.endswith(b"\n"):
            yield number, line[:-1]
        else:
            raise Fault("malformed" if len(line) > LINE_MAX or number == 1 else "truncated", number)
    raise Fault("truncated", number + 1)


def gap(rest, expected, number):
    try:
        for _, line in rest:
            later = entry(line)
            if later and later[2] == expected:
                return Fault("reordered", number)
    except Fault:
        pass
    return Fault("missing", number)


def verify(path, note):
    with open(path, "rb") as file:
        rest = lines(file)
        number, line = next(rest)
        first = re.fullmatch(rb'\{"chain":"([^"\\]*)","tag":"tenure.audit.export.v1"\}', line)
        if not first:
            raise Fault("malformed", number)
        origin = first[1].decode()
        if note and note[0] != origin:
            raise Fault("forked", number, f"the checkpoint is of {note[0]}")
        before = head = sha256(b"tenure.audit.v1 genesis\n" + origin.encode() + b"\n")
        size, peaks, anchored = 0, [], 0
        while True:
            if note and note[1] == size:
                if (root(peaks), head) != note[2:4]:
                    raise Fault("forked", number)
                anchored = size
            number, line = next(rest)
            end = END.fullmatch(line)
            if end:
                break
            found = entry(line)
            if not found:
                raise Fault("malformed", number)
            content, hash, seq = found
            if seq > size + 1:
                raise gap(rest, size + 1, number)
            if seq <= size:
                is_sibling = seq == size and hash != head and hash == sha256(content + before)
                raise Fault("forked" if is_sibling else "doubled", number)
            if sha256(content + head) != hash:
                raise Fault("altered", number)
            before, head, size = head, hash, size + 1
            push(peaks, hash)
        if int(end[2]) > size:
            raise Fault("truncated", number)
        if (int(end[2]), bytes.fromhex(end[1].decode())) != (size, head):
            raise Fault("altered", number)
        if note and note[1] > size:
            raise Fault("truncated", number)
        if file.read(1):
            raise Fault("malformed", number + 1)
    return {"origin": origin, "size": size, "anchored": anchored, "head": head.hex()}


def main(path, note=None, key=None):
    try:
        note = note and checkpoint(note, key)
        found = {"verdict": "verified" if note else "unanchored", **verify(path, note)}
        print(json.dumps({**found, "signature": note[4] if note else "not checked"}))
        return 0 if note else 9
    except Fault as fault:
        print(json.dumps({"verdict": fault.kind, "line": fault.line, "what": fault.what}))
        return 7


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
