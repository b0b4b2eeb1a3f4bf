"""Protections against checkpoints whose bytes are right and whose tensors are not."""

from tests.simulation.protections import Protection

_ARCHIVES = "orchestrator/archives.py"
_CHECKPOINTS = "orchestrator/checkpoints.py"
_OPCODES = "orchestrator/opcodes.py"
_SYMBOLS = "orchestrator/symbols.py"
_TENSORS = "orchestrator/tensors.py"
_SESSIONS = "tests/simulation/test_sessions.py::test_"
_CASES = "tests/controller/test_hostile.py::test_it_is_refused_and_says_why"
_LIKE = "tests/controller/test_tensors.py::test_"

TENSORS = [
    Protection(
        "weights and moments are finite",
        _ARCHIVES,
        "if finite and not finite[1](chunk):",
        "if False:",
        _SESSIONS + "a_checkpoint_that_is_not_finite_is_replaced_by_an_older_one",
        invariants=("I3",),
    ),
    Protection(
        "a checkpoint has the head's tensors",
        _CHECKPOINTS,
        'check_like(read_listed(folder / name, entry.get("members")), head())',
        'check_like(read_listed(folder / name, entry.get("members")), None)',
        _SESSIONS + "a_checkpoint_with_other_shapes_than_the_heads_is_not_taken",
    ),
    Protection(
        "a checkpoint holds a tensor",
        _TENSORS,
        "    if not found:\n",
        "    if False:\n",
        _CASES + "[no tensor]",
    ),
    Protection(
        "the weights of a state are told from its other tensors",
        _TENSORS,
        "    return named or inventory",
        "    return inventory",
        _LIKE + "what_differs_for_good_reason_is_accepted",
    ),
    Protection(
        "a tensor lies within its storage",
        _TENSORS,
        "if count and max(begin + reach, count) * DTYPE_BYTES[dtype] > storage.bytes:",
        "if False:",
        _CASES + "[a shape beyond its storage]",
    ),
    Protection(
        "what describes a tensor is whole numbers from 0 on",
        _TENSORS,
        "if not all(type(number) is int and 0 <= number <= LARGEST for number in found):",
        "if False:",
        _CASES + "[a negative offset]",
    ),
    Protection(
        "each storage has the size that its pickle says, and is there",
        _TENSORS,
        'if (size := sizes.get(f"data/{key}")) != storage.bytes:',
        'if (size := sizes.get(f"data/{key}")) is False:',
        _CASES + "[a storage of another size]",
    ),
    Protection(
        "no numbers lie in an archive that its pickle does not speak of",
        _TENSORS,
        'if name.startswith("data/") and name.removeprefix("data/") not in storages:',
        "if False:",
        _CASES + "[a storage of no name]",
    ),
    Protection(
        "a storage is described in one way",
        _OPCODES,
        "if self.storages.setdefault(found.key, found) != found:",
        "if self.storages.setdefault(found.key, found) is None:",
        _CASES + "[a storage of two types]",
    ),
    Protection(
        "a dictionary has a key once",
        _OPCODES,
        "if key in node.held:",
        "if False:",
        _CASES + "[a key twice in a state]",
    ),
    Protection(
        "what a pickle remembers comes in its turn",
        _OPCODES,
        "if self.number(form) != len(self.memo):",
        "if self.number(form) is None:",
        _CASES + "[a memo out of turn]",
    ),
    Protection(
        "what a pickle makes is bounded",
        _OPCODES,
        "if kept > ENTRY_LIMIT:",
        "if False:",
        _CASES + "[two million dictionaries]",
    ),
    Protection(
        "what stands in itself is not followed for ever",
        _SYMBOLS,
        "if len(path) > DEPTH_LIMIT:",
        "if False:",
        _CASES + "[a state in itself]",
    ),
    Protection(
        "what stands on many ways is not followed on all of them",
        _SYMBOLS,
        "if next(budget, None) is None:",
        "if False:",
        _LIKE + "what_would_take_hours_or_gigabytes_is_refused[a billion laughs]",
    ),
    Protection(
        "numbers are little-endian",
        _ARCHIVES,
        'if name == "byteorder" and chunk != b"little":',
        "if False:",
        _CASES + "[big-endian numbers]",
    ),
    Protection(
        "no text from outside has a megabyte",
        "orchestrator/contract.py",
        "if len(content) > TEXT_LIMIT_CHARACTERS:",
        "if False:",
        _CASES + "[a text of 1 MB]",
    ),
]
