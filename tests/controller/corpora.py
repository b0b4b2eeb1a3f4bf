"""Hostile and damaged outputs, made anew for each test: what a session must never get past us.

Every entry takes a good output (`conftest.Output`), spoils it, and says what the refusal says.
"""

import io
import json
import os
import pickle
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests import torchlike

CANARY = "canary"  # a file that a gadget would make in its current folder
ERROR_PAGE = b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code></Error>"


@dataclass(frozen=True)
class Case:
    """One spoilt output."""

    name: str
    spoil: Callable[[Any], None]
    said: str  # a regular expression


# Bytes: the file is not the one that the manifest lists


def replaced(change):
    """Change the bytes, and nothing else."""

    def spoil(left):
        path = left.folder / left.name
        path.write_bytes(change(path.read_bytes()))

    return spoil


def flipped(content, place):
    changed = bytearray(content)
    changed[place] ^= 0x10
    return bytes(changed)


def swap_files(left):
    one, other = left.folder / left.name, left.folder / "training_history.json"
    swapped = one.read_bytes(), other.read_bytes()
    other.write_bytes(swapped[0])
    one.write_bytes(swapped[1])


def make_sparse(left):
    with (left.folder / left.name).open("r+b") as file:
        file.truncate(20 << 30)


def lose(left):
    (left.folder / left.name).unlink()


BYTES = [
    Case("truncated to nothing", replaced(lambda c: b""), "has 0 bytes instead of"),
    Case("truncated to one byte", replaced(lambda c: c[:1]), "has 1 bytes instead of"),
    Case("truncated to a half", replaced(lambda c: c[: len(c) // 2]), "bytes instead of"),
    Case("without its last byte", replaced(lambda c: c[:-1]), "bytes instead of"),
    Case("a bit flip in its header", replaced(lambda c: flipped(c, 2)), "SHA-256"),
    Case("a bit flip in a tensor", replaced(lambda c: flipped(c, len(c) // 2)), "SHA-256"),
    Case("a bit flip in its tail", replaced(lambda c: flipped(c, -3)), "SHA-256"),
    Case("a page of zeros", replaced(lambda c: b"\0" * 64 + c[64:]), "SHA-256"),
    Case("another file's bytes", swap_files, "bytes instead of|bytes announced"),
    Case("one byte more", replaced(lambda c: c + b"\0"), "bytes announced"),
    Case("an error page in its place", replaced(lambda c: ERROR_PAGE), "bytes instead of"),
    Case("twenty gigabytes of nothing", make_sparse, "bytes announced"),
    Case("no file at all", lose, "lacks checkpoint_epoch1_step10.pt"),
]


# Archives: the hash is right, the content is not what a training writes


def rewritten(change):
    """Change the bytes and let the manifest list them as they are then."""

    def spoil(left):
        replaced(change)(left)
        left.relist()

    return spoil


def packed(*members, method=zipfile.ZIP_STORED, comment=b""):
    """Pack these (name, content) pairs as they are; the manifest lists the file, not them."""

    def spoil(left):
        with zipfile.ZipFile(left.folder / left.name, "w", method) as archive:
            archive.comment = comment
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a name that stands twice is what is wanted
                for name, content in members:
                    archive.writestr(zipfile.ZipInfo(name), content, method)
        left.relist()

    return spoil


def patched(signature, offset, value):
    """Overwrite a field behind the last such signature."""

    def change(content):
        at = content.rindex(signature) + offset
        return content[:at] + value + content[at + len(value) :]

    return rewritten(change)


def overlapping(content):
    """Let the second member's entry point at the first one's bytes."""
    first = content.index(b"PK\x01\x02")
    second = content.index(b"PK\x01\x02", first + 4)
    entry = bytearray(content[second:])
    entry[:46] = content[first : first + 46]
    struct.pack_into("<H", entry, 28, len("archive/byteorder"))
    return content[:second] + bytes(entry)


def claiming(members, size):
    """An archive of the new kind whose end claims so many members and bytes of directory."""

    def change(content):
        at = len(content) - 22
        end = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, members, members, size, 0)
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
        return content[:at] + end + locator + content[at:]

    return rewritten(change)


def many_members(left):
    packed(*((f"archive/data/{n}", b"") for n in range(20_001)))(left)


def nested(content=b"x"):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a/b", content)
    return inner.getvalue()


STATE = torchlike.pickled(torchlike.STATE)
PKL = "archive/data.pkl"
TRUE = [(f"archive/{path}", c) for path, c in torchlike.members(torchlike.STATE).items()]
ARCHIVES = [
    Case("an error page with its own hash", rewritten(lambda c: ERROR_PAGE), "not begin as one"),
    Case("a half with its own hash", rewritten(lambda c: c[: len(c) // 2]), "not end as one"),
    Case("an empty file", rewritten(lambda c: b""), "not begin as one"),
    Case("bytes before it", rewritten(lambda c: b"#!/bin/sh\n" + c), "not begin as one"),
    Case("an archive after an archive", rewritten(lambda c: c + c), "not where it is said to be"),
    Case("bytes behind it", rewritten(lambda c: c + b"more"), "not end as one"),
    Case("a comment", packed((PKL, STATE), comment=b"PK\5\6" + b"\0" * 18), "not (end|where)"),
    Case("a wrong CRC", rewritten(lambda c: c.replace(b"little", b"LITTLE")), "Bad CRC"),
    Case("an encrypted member", patched(b"PK\1\2", 8, b"\1\0"), "odd flags 0x0001"),
    Case("a patched member", patched(b"PK\1\2", 8, b"\x20\0"), "odd flags 0x0020"),
    Case("an unknown method", patched(b"PK\1\2", 10, b"\x63\0"), "is compressed"),
    Case("a size of 4 GB", patched(b"PK\1\2", 20, b"\xfe\xff\xff\xff" * 2), "larger than the file"),
    Case("an offset beyond its end", patched(b"PK\1\2", 42, b"\xff\xff\xff\x7f"), "larger|over"),
    Case("a directory of 4 GB", patched(b"PK\5\6", 12, b"\xfe\xff\xff\xff"), "claims 3 members"),
    Case("a directory elsewhere", patched(b"PK\5\6", 16, b"\1\0\0\0"), "not where it is said"),
    Case("2^63 members", claiming(1 << 63, 100), "claims 9,223,372,036,854,775,808 members"),
    Case("a directory of 2^62 bytes", claiming(2, 1 << 62), "claims 2 members in 4,611"),
    Case("twenty thousand members", many_members, "claims 20,001 members"),
    Case("two members of one name", packed((PKL, STATE), (PKL, b"N.")), "stands twice"),
    Case("two roots", packed((PKL, STATE), ("other/version", b"3")), "beside another root"),
    Case("members over each other", rewritten(overlapping), "stands twice|lies over another"),
    Case("a bomb", packed((PKL, b"\0" * (64 << 20)), method=zipfile.ZIP_DEFLATED), "is compressed"),
    Case("a pickle of 65 MB", packed((PKL, b"\0" * (65 << 20))), "has 68,157,440 bytes"),
    Case("an archive inside", packed(("archive/inner", nested())), "is an archive itself"),
    Case("code inside", packed((PKL, STATE), ("archive/code/x.py", b"1")), "is not torch's"),
    Case("a member that climbs", packed(("archive/../../x", b"1")), "refused member name"),
    Case("an absolute member", packed(("/etc/passwd", b"1")), "refused member name"),
    Case("a member without a root", packed(("data.pkl", STATE)), "refused member name"),
    Case("a member of a drive", packed(("archive/C:\\x", b"1")), "refused member name"),
    Case("a member with a line end", packed(("archive/a\nb", b"1")), "refused member name"),
    Case("a member that turns around", packed(("archive/\u202etp.exe", b"1")), "refused member"),
    Case("a folder", packed((PKL, STATE), ("archive/data/", b"")), "refused member name"),
    Case("another tensor", packed(*TRUE, ("archive/data/1", b"1234")), "speak of member"),
    Case("a tensor less", packed((PKL, STATE)), "storage 0 is not there"),
    Case("a member more", packed(*TRUE, ("archive/version", b"3")), "other members than listed"),
]


# Pickles: everything is right about the archive, and its pickle would do something


def pickling(content):
    """Put this pickle where torch would unpickle it, and list it truly."""

    def spoil(left):
        left.write_archive({"data.pkl": content, "byteorder": b"little"})
        left.list_members({"data.pkl": content, "byteorder": b"little"})

    return spoil


def calling(module, name, argument=f"touch {CANARY}"):
    """The pickle of protocol 2 that calls a name with one text."""
    text = argument.encode()
    called = f"c{module}\n{name}\n".encode()
    return b"\x80\x02" + called + b"X" + struct.pack("<I", len(text)) + text + b"\x85R."


def with_opcode(name, rest=b""):
    codes = {opcode.name: opcode.code.encode("latin-1") for opcode in pickletools.opcodes}
    return b"\x80\x02" + codes[name] + rest + b"."


GADGETS = [
    *(("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "check_output")),
    *(("builtins", "eval"), ("builtins", "exec"), ("__builtin__", "eval"), ("builtins", "open")),
    *(("builtins", "getattr"), ("__builtin__", "getattr"), ("builtins", "__import__")),
    *(("operator", "attrgetter"), ("operator", "methodcaller"), ("functools", "partial")),
    *(
        ("importlib", "import_module"),
        ("runpy", "run_path"),
        ("pty", "spawn"),
        ("code", "interact"),
    ),
    *(("torch", "load"), ("torch.hub", "load"), ("torch.storage", "_load_from_bytes")),
    *(("torch", "Storage.from_file"), ("torch._utils", "_import_dotted_name")),
    *(("torch.jit", "load"), ("torch", "_utils._rebuild_tensor_v2"), ("numpy", "load")),
    *(("torch", "float32.__class__"), ("collections", "OrderedDict.__init__")),
    *(("copyreg", "_reconstructor"), ("types", "FunctionType"), ("_pickle", "loads")),
]
ODD_OPCODES = [
    ("INST", b"os\nsystem\n"),
    ("OBJ", b""),
    ("STACK_GLOBAL", b""),
    ("NEWOBJ_EX", b""),
    ("EXT1", b"\1"),
    ("PERSID", b"x\n"),
    ("STRING", b"'x'\n"),
    ("UNICODE", b"x\n"),
    ("INT", b"1\n"),
    ("FRAME", struct.pack("<Q", 1 << 62)),
    ("NEXT_BUFFER", b""),
    ("READONLY_BUFFER", b""),
    ("BYTEARRAY8", struct.pack("<Q", 1) + b"x"),
    ("LONG4", struct.pack("<I", 1) + b"x"),
    ("POP", b""),
    ("DUP", b""),
    ("MEMOIZE", b""),
]
PICKLES = [
    *(
        Case(f"{module}.{name}", pickling(calling(module, name)), rf"asks for {module}\.")
        for module, name in GADGETS
    ),
    *(
        Case(f"opcode {name}", pickling(with_opcode(name, rest)), f"uses the opcode {name}")
        for name, rest in ODD_OPCODES
    ),
    Case("protocol 4", pickling(pickle.dumps([1], protocol=4)), "of protocol 4"),
    Case(
        "protocol 5 with buffers elsewhere",
        pickling(pickle.dumps(pickle.PickleBuffer(b"x"), 5, buffer_callback=lambda _: None)),
        "of protocol 5",
    ),
    Case("a pickle behind a pickle", pickling(STATE + calling("os", "system")), "goes on after"),
    Case("a pickle without an end", pickling(STATE[:-1]), "cannot be read"),
    Case("a text of 4 GB", pickling(b"\x80\x02X\xff\xff\xff\xff."), "cannot be read"),
    Case("a memo of 4 G places", pickling(b"\x80\x02Nr\xff\xff\xff\xff."), "reserves memory"),
    Case("no pickle", pickling(b"weights " * 50), "uses the opcode|cannot be read"),
    Case("no opcode at all", pickling(b"\xff\xff"), "cannot be read"),
]


# Finished models


def safetensors(header, data=b"\0" * 8, length=None):
    """Add a final model whose header and length are these."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()

    def spoil(left):
        path = left.folder / "final_model" / "model.safetensors"
        path.parent.mkdir()
        size = len(raw) if length is None else length
        path.write_bytes(struct.pack("<Q", size) + raw + data)
        left.body["files"].append(left.entry("final_model/model.safetensors", "final"))

    return spoil


def tensor(begin, end, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def final_gadget(left):
    path = left.folder / "final_model" / "pytorch_model.bin"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(PKL, calling("os", "system"))
    left.body["files"].append(left.entry("final_model/pytorch_model.bin", "final"))


def handing_over(name, content):
    """Add a file of this name to a final model."""

    def spoil(left):
        path = left.folder / "final_model" / name
        path.parent.mkdir()
        path.write_bytes(content)
        left.body["files"].append(left.entry(f"final_model/{name}", "final"))

    return spoil


def zipped(member):
    """An archive with one gadget, under this name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"archive/{member}", calling("os", "system"))
    return buffer.getvalue()


# What an own training may hand over beside its weights.
HANDED_OVER = {
    "config.json": b"{}",
    "README.md": "caf\u00e9".encode(),
    "merges.txt": b"",
    "curve.csv": b"step,loss\n1,2.5\n",
    "TOKENS.TXT": b"a\n",
    "tokenizer.model": b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02",
}
CALLING = calling("os", "system")
OLD_CALLING = b"cos\nsystem\n(Vtouch canary\ntR."  # protocol 0: plain text, no magic
HIDDEN = [
    *(Case(f"a gadget as {name}", handing_over(name, CALLING), "ends in none of")
      for name in ("weights", "weights.pkl", "weights.ckpt", "weights.pt.gz", "args.joblib")),
    *(Case(f"a gadget of protocol 0 as {name}", handing_over(name, OLD_CALLING), said)
      for name, said in (("weights", "ends in none of"), ("x.npy", "ends in none of"),
                         ("word2vec.model", "begin as a sentencepiece"),
                         ("weights.PT", "not a readable archive"))),
    *(Case(f"a gadget as {name}", handing_over(name, CALLING), said)
      for name, said in (("vocab.json", "no text"), ("vocab.txt", "no text"),
                         ("spiece.model", "begin as a sentencepiece"),
                         ("weights.Bin", "not a readable archive"))),
    *(Case(f"an archive with a gadget as {name}", handing_over(name, zipped(member)), said)
      for name, member, said in (("weights.PT", "data.pkl", r"asks for os\.system"),
                                 ("weights.pth", "data.PKL", r"asks for os\.system"),
                                 ("weights.txt", "data.pkl", "no text"),
                                 ("weights.model", "data.pkl", "begin as a sentencepiece"))),
    Case("an archive's beginning as a text", handing_over("a.txt", b"PK\3\4\x14\0"), "holds a NUL"),
    Case("half a character as a text", handing_over("a.txt", b"caf\xc3"), "no text"),
]  # fmt: skip
GOOD_MODEL = safetensors({"__metadata__": {"a": "b"}, "x": tensor(0, 4), "y": tensor(4, 8)})
TWICE = b'{"x": %s, "x": %s}' % ((json.dumps(tensor(0, 8, [2])).encode(),) * 2)
MODELS = [
    Case("a gadget in a finished model", final_gadget, r"asks for os\.system"),
    Case("a header of 2^63 bytes", safetensors({}, length=1 << 63), "claims a header of 9,223"),
    Case("a header longer than the file", safetensors({}, length=11), "claims a header of 11"),
    Case(
        "overlapping tensors",
        safetensors({"x": tensor(0, 4), "y": tensor(2, 6)}),
        "overlap or leave gaps",
    ),
    Case("a gap", safetensors({"x": tensor(0, 4), "y": tensor(5, 9)}), "overlap or leave gaps"),
    Case("bytes behind the tensors", safetensors({"x": tensor(0, 4)}), "not what fills it"),
    Case("two tensors of one name", safetensors(TWICE), "a key stands twice"),
    Case("another shape", safetensors({"x": tensor(0, 8, [3])}), "not described rightly"),
    Case("a negative shape", safetensors({"x": tensor(0, 8, [-1, -2])}), "not described rightly"),
    Case("an unknown type", safetensors({"x": tensor(0, 8, [2], "F31")}), "not described rightly"),
    Case("no tensors but a list", safetensors([]), "lists no tensors"),
    Case("a header that nests", safetensors(b"[" * 100_000), "is not valid JSON"),
]


# Manifests


PARENT = {
    **{"file": "checkpoint_epoch1_step5.pt", "step": 5, "bytes": 100},
    **{"sha256": "1" * 64, "manifest_sha256": "2" * 64},
}


def bent(**fields):
    return lambda left: left.body.update(fields)


def oversized(left):
    left.checkpoint["bytes"] = (20 << 30) + 1


LINEAGE = [
    Case("another chain", bent(chain="other"), "another chain"),
    Case("another session", bent(session=9), "another session"),
    Case("another token", bent(token="kc1." + "b" * 26), "another token"),
    Case("another parent", bent(parent=PARENT), "names another parent"),
    Case("more than a session can save", oversized, "more than a session can save"),
    Case("a later contract", bent(contract=2), "does not keep the contract"),
]


def said_by(change):
    """Change the manifest's exact bytes."""

    def spoil(left):
        left.override = change(left.content)

    return spoil


def with_field(value):
    return said_by(lambda content: content[:-1] + b', "more": ' + value + b"}")


JSONS = [
    Case("nothing", said_by(lambda c: b""), "is not valid JSON"),
    Case("a half", said_by(lambda c: c[: len(c) // 2]), "is not valid JSON"),
    Case("something behind it", said_by(lambda c: c + b"{}"), "is not valid JSON"),
    Case("a list", said_by(lambda c: b"[" + c + b"]"), "does not keep the contract"),
    Case("null", said_by(lambda c: b"null"), "does not keep the contract"),
    Case("UTF-16", said_by(lambda c: c.decode().encode("utf-16")), "is not valid JSON"),
    Case("a byte order mark", said_by(lambda c: b"\xef\xbb\xbf" + c), "is not valid JSON"),
    Case("no text", said_by(lambda c: b"\xff" + c), "is not valid JSON"),
    Case("an error page", said_by(lambda c: ERROR_PAGE), "is not valid JSON"),
    Case("a key twice", with_field(b'{"a": 1, "a": 2}'), "a key stands twice"),
    Case("a token twice", said_by(lambda c: c[:-1] + b', "token": "x"}'), "a key stands twice"),
    Case("NaN", with_field(b"NaN"), "NaN is not JSON"),
    Case("a loss that is NaN", said_by(lambda c: c.replace(b"2.5", b"NaN")), "NaN is not JSON"),
    Case("infinity", with_field(b"-Infinity"), "Infinity is not JSON"),
    Case("an infinite number", with_field(b"1e999"), "1e999 is not JSON"),
    Case("a number of 5,000 digits", with_field(b"9" * 5000), "is not valid JSON"),
    Case("a depth of 10,000", with_field(b"[" * 10_000 + b"]" * 10_000), "not valid JSON|nested"),
    Case("a depth of a million", with_field(b'{"a":' * 800_000), "is not valid JSON|larger"),
    Case("a lone surrogate", with_field(b'"\\ud800"'), "is not valid JSON|not keep the contract"),
    Case("a text of 1 MB", with_field(b'"' + b"x" * (1 << 20) + b'"'), "has more than 65,536"),
    Case("a key of 1 MB", with_field(b'[{"' + b"x" * (1 << 20) + b'": 1}]'), "has more than 65,536"),
    Case("a text of 5 MB", with_field(b'"' + b"x" * (5 << 20) + b'"'), "bytes announced"),
    Case("a million files", said_by(lambda c: c.replace(b'"files": [', b'"files": [' + b"0," * 10**6)),
         "does not keep the contract"),
]  # fmt: skip

NAMES = [
    *("../x", "../../x", "/abs", "C:\\x", "C:x", "a\\..\\b", "a/../b", "a/b/c", "./x", "x/"),
    *("nul\0byte", "line\nend", "trailing.", "trailing ", " leading", ".hidden", "-rf", "--help"),
    *("CON", "con.txt", "NUL.json", "com1.pt", "LPT9.x", "x" * 101, "x" * 300, "", ".", ".."),
    *("\u202egnp.exe", "caf\u00e9.pt", "cafe\u0301.pt", "\uff0e\uff0e/x", ".ssh/authorized_keys"),
    *("/dev/sda", "/proc/self/mem", "a:b", "a|b", "a*b", "$(x)", "`x`", "~", "~/x", "%2e%2e%2fx"),
    *("final_model/../x", "final_model/a/b", "final_model", "manifest.json", "session.json"),
]


def listing(name):
    """Let the manifest list, and want, a file of this name."""

    def spoil(left):
        left.body["files"].append({**left.body["files"][1], "name": name})
        left.body["publish"].append(name)

    return spoil


def finishing(name):
    def spoil(left):
        left.body["files"].append({**left.body["files"][1], "kind": "final", "name": name})

    return spoil


LISTED = [
    Case(f"{kind.__name__} {name!r:.40}", kind(name), "contract|may not list|refused file name")
    for name in NAMES
    for kind in (listing, finishing)
] + [
    Case("two names of one file", listing("TRAINING_HISTORY.json"), "lists a name twice"),
    Case("the same name twice", listing("training_history.json"), "lists a name twice|contract"),
]

ALL = [*BYTES, *ARCHIVES, *PICKLES, *MODELS, *HIDDEN, *LINEAGE, *JSONS, *LISTED]


def tree(folder):
    """Everything below a folder, with its size: what is equal before and after did not change."""
    found = {}
    for path, _folders, names in os.walk(folder):
        found[path] = 0
        for name in names:
            found[os.path.join(path, name)] = os.lstat(os.path.join(path, name)).st_size
    return found
