"""Training loops to compare, each in a process of its own that takes one step when told to.

    python benchmarks/loops.py NAME FOLDER

FOLDER is what bench.py prepared: tokens.bin with its description and tokenizer, and rows.npy, the
text's rows each padded to 512 tokens. A loop prints one JSON line for each optimizer step and then
waits for a line on standard input, so that loops can alternate within one run.

All loops train the same 10 M GPT-2 on the same text with AdamW, a clipped gradient and a learning
rate schedule, 2 x 512 positions in a micro-batch and 4 micro-batches in a step.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

BATCH, ACCUMULATION, TOKENS = 2, 4, 512
LAYERS, HEADS, WIDTH, WORDS = 6, 5, 160, 50_257
LEARNING_RATE, STEPS = 5e-4, 10_000
KERNEL = Path(__file__).parent.parent / "kernel_template"


class Gate:
    """Between two steps: reports the one that ended, waits for the next to be wanted."""

    def __init__(self) -> None:
        self._began_at = time.perf_counter()

    def step(self, **facts: Any) -> None:
        seconds = time.perf_counter() - self._began_at
        print(json.dumps({"seconds": seconds, **facts}), flush=True)
        if not sys.stdin.readline():
            os._exit(0)  # nobody wants another step, and a loop has no other way out
        self._began_at = time.perf_counter()


def guide(folder: Path, gate: Gate) -> None:
    """The guide's way: transformers' model, one padded row a sample, a loss read each micro-batch."""
    from torch.utils.data import DataLoader, TensorDataset
    from transformers import get_linear_schedule_with_warmup

    rows = torch.from_numpy(np.load(folder / "rows.npy").astype(np.int64))
    lengths = torch.from_numpy(np.load(folder / "lengths.npy").astype(np.int64))
    masks = (torch.arange(TOKENS) < lengths[:, None]).long()
    loader = DataLoader(TensorDataset(rows, masks), batch_size=BATCH, shuffle=True)
    model = hugging_face_model(dropout=0.1, words=WORDS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    scheduler = get_linear_schedule_with_warmup(optimizer, 500, STEPS)
    model.train()
    total = 0.0
    for number, (input_ids, attention_mask) in enumerate(loader, start=1):
        loss = model(input_ids=input_ids, attention_mask=attention_mask, labels=input_ids).loss
        (loss / ACCUMULATION).backward()
        total += loss.item()
        if number % ACCUMULATION == 0:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            gate.step()


def trainer(folder: Path, gate: Gate) -> None:
    """Hugging Face's Trainer on packed blocks."""
    from torch.utils.data import Dataset
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Blocks(Dataset):
        def __init__(self) -> None:
            self.tokens = packed(folder)

        def __len__(self) -> int:
            return len(self.tokens) // TOKENS

        def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
            block = self.tokens[number * TOKENS : (number + 1) * TOKENS].astype(np.int64)
            return {"input_ids": torch.from_numpy(block), "labels": torch.from_numpy(block)}

    class Gated(TrainerCallback):
        def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
            gate.step()

    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=ACCUMULATION,
        learning_rate=LEARNING_RATE,
        warmup_steps=500,
        max_steps=STEPS,
        max_grad_norm=1.0,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    model = hugging_face_model(dropout=0.1, words=WORDS)
    Trainer(model=model, args=arguments, train_dataset=Blocks(), callbacks=[Gated()]).train()


def plain(folder: Path, gate: Gate, *, attention_dropout: float, dtype: torch.dtype) -> None:
    """A plain hand-written loop in nanoGPT's manner: random blocks, all logits at one time."""
    tokens = packed(folder)
    model = PlainGPT(0.1, attention_dropout)
    decays = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": decays, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.95))
    autocast = torch.autocast("cpu", dtype, enabled=dtype != torch.float32)

    def read() -> tuple[torch.Tensor, torch.Tensor]:
        starts = torch.randint(len(tokens) - TOKENS - 1, (BATCH,)).tolist()
        rows = np.stack([tokens[start : start + TOKENS + 1].astype(np.int64) for start in starts])
        return torch.from_numpy(rows[:, :-1]), torch.from_numpy(rows[:, 1:])

    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 500)
        for _ in range(ACCUMULATION):
            inputs, targets = read()
            with autocast:
                logits = model(inputs)
                loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
            (loss / ACCUMULATION).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        gate.step()


class PlainGPT(nn.Module):
    """A GPT-2 as a careful user would write it: PyTorch's attention, a tied head, padded words."""

    def __init__(self, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.token = nn.Embedding(50_304, WIDTH)
        self.position = nn.Embedding(TOKENS, WIDTH)
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(PlainLayer(dropout, attention_dropout) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        for parameter in self.parameters():
            if parameter.dim() >= 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.drop(self.token(tokens) + self.position.weight[: tokens.shape[1]])
        for layer in self.layers:
            x = layer(x)
        return nn.functional.linear(self.norm(x), self.token.weight)


class PlainLayer(nn.Module):
    """Attention and feed-forward, each behind its norm."""

    def __init__(self, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.drop = nn.Dropout(dropout)
        self.attention_dropout = attention_dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = (
            part.unflatten(2, (HEADS, WIDTH // HEADS)).transpose(1, 2)
            for part in self.qkv(self.norm_1(x)).split(WIDTH, dim=2)
        )
        attended = nn.functional.scaled_dot_product_attention(
            *heads, dropout_p=self.attention_dropout, is_causal=True
        )
        x = x + self.drop(self.out(attended.transpose(1, 2).flatten(2)))
        return x + self.drop(self.down(nn.functional.gelu(self.up(self.norm_2(x)))))


def ours(folder: Path, gate: Gate, **overrides: Any) -> None:
    """kchain's own train.py, whole; its step lines are where it waits."""
    sys.path.insert(0, str(KERNEL))
    import session as template
    import train
    from parameters import parse_parameters

    class Gated(template.Session):
        """The real session, which also tells how long each save held the training up."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.stalls: list[float] = []
            super().__init__(*args, **kwargs)

        def progress(self, event: str, **facts: Any) -> None:
            if event == "step":
                gate.step(stalls=self.stalls.copy())

        def spend(self, category: str) -> float:
            saving = self._category == "save"
            passed = super().spend(category)
            if category == "save" and not saving:
                self.stalls.append(0.0)
            elif saving:
                self.stalls[-1] += passed
            return passed

        def step_line_due(self, every_seconds: float) -> bool:
            return True

    raw = session_parameters(**overrides)
    working = folder / f"ours-{os.getpid()}"
    working.mkdir()
    os.environ["KCHAIN_DATA_DIR"] = str(folder)
    paths = template.Paths(folder / "no-input", working)
    train.train(Gated(raw, paths, time.time()), parse_parameters(raw))


def profiled(folder: Path, gate: Gate) -> None:
    """kchain's loop under PyTorch's profiler; reports the share of each part of a step."""
    from torch.profiler import ProfilerActivity, profile

    class Profiled(Gate):
        def __init__(self) -> None:
            super().__init__()
            self.profiler = profile(activities=[ProfilerActivity.CPU])
            self.profiler.start()

        def step(self, **_facts: Any) -> None:
            self.profiler.stop()
            shares = dict.fromkeys([*PARTS, "everything else"], 0.0)
            for event in self.profiler.key_averages():
                named = [part for part, names in PARTS.items() if event.key in names]
                shares[(named or ["everything else"])[0]] += event.self_cpu_time_total
            total = sum(shares.values())
            gate.step(parts={part: share / total for part, share in shares.items()})
            self.profiler = profile(activities=[ProfilerActivity.CPU])
            self.profiler.start()

    ours(folder, Profiled())


ATTENTION = "aten::_scaled_dot_product_flash_attention_for_cpu"
PARTS = {
    "matrix products": {"aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm"},
    "softmax and its statistics": {"aten::_softmax", "aten::amax", "aten::_index_put_impl_"},
    "attention": {ATTENTION, f"{ATTENTION}_backward"},
    "norms and GELU": {
        *("aten::native_layer_norm", "aten::native_layer_norm_backward"),
        *("aten::gelu", "aten::gelu_backward"),
    },
    "dropout": {"aten::bernoulli_", "aten::native_dropout", "aten::native_dropout_backward"},
    "optimizer and clipping": {
        *("aten::_fused_adamw_", "aten::_foreach_norm", "aten::_foreach_mul_"),
        "aten::linalg_vector_norm",
    },
    "adding, scaling, copying, filling": {
        *("aten::add", "aten::add_", "aten::mul", "aten::mul_", "aten::sub_", "aten::div_"),
        *("aten::copy_", "aten::fill_", "aten::zero_", "aten::sum", "aten::div"),
    },
}


def session_parameters(preset: str = "wikitext103", **overrides: Any) -> dict[str, Any]:
    """A session of 10 M parameters with the comparison's step; nothing saved or validated."""
    quiet = {"checkpoint_steps": 10**6, "checkpoint_seconds": 10**6, "evaluation_steps": 10**6}
    step = {"batch_size": BATCH, "accumulation": ACCUMULATION, "max_steps": STEPS, "epochs": 10**4}
    return {
        "contract": 1,
        "chain": "bench",
        "session": 1,
        "attempt": 1,
        "token": "kc1." + "b" * 26,
        "parent": None,
        "time_budget_seconds": 41_400,
        "sessions_planned": 1,
        "training": {"preset": preset, "overrides": {**quiet, **step, **overrides}},
        "accelerator": {"kind": "none", "count": 0},
    }


def matrices(_folder: Path, gate: Gate, dtype: torch.dtype) -> None:
    """How fast this machine multiplies: the better of a square product and the tied head's."""
    with torch.no_grad():
        square = torch.randn(2048, 2048, dtype=dtype)
        rows, head = torch.randn(1024, WIDTH, dtype=dtype), torch.randn(50_304, WIDTH, dtype=dtype)
        logits = torch.empty(1024, 50_304, dtype=dtype)
        while True:
            rates = []
            for multiply, operations in (
                (lambda: square @ square, 2 * 2048**3),
                (lambda: torch.mm(rows, head.T, out=logits), 2 * 1024 * 50_304 * WIDTH),
            ):
                began_at = time.perf_counter()
                for _ in range(10):
                    multiply()
                rates.append(10 * operations / (time.perf_counter() - began_at))
            gate.step(flops=max(rates))


def hugging_face_model(*, dropout: float, words: int) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=words,
        n_positions=TOKENS,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        embd_pdrop=dropout,
        resid_pdrop=dropout,
        attn_pdrop=dropout,
    )
    return GPT2LMHeadModel(config)


def packed(folder: Path) -> np.ndarray:
    return np.memmap(folder / "tokens.bin", dtype="<u2", mode="r")


def saving(size: str) -> dict[str, Any]:
    """Settings under which every step is saved, for the model of this preset."""
    return {"preset": size, "checkpoint_steps": 1}


FP32, BF16 = torch.float32, torch.bfloat16
LOOPS: dict[str, Callable[[Path, Gate], None]] = {
    "guide": guide,
    "trainer": trainer,
    "plain": lambda *to: plain(*to, attention_dropout=0.0, dtype=FP32),
    "plain-attention-dropout": lambda *to: plain(*to, attention_dropout=0.1, dtype=FP32),
    "plain-bf16": lambda *to: plain(*to, attention_dropout=0.0, dtype=BF16),
    "ours": ours,
    "ours-attention-dropout": lambda *to: ours(*to, attention_dropout=0.1),
    "ours-bf16": lambda *to: ours(*to, precision="bf16"),
    "ours-saving": lambda *to: ours(*to, **saving("wikitext103")),
    "ours-19m-saving": lambda *to: ours(*to, **saving("wikitext103-19m")),
    "ours-profile": profiled,
    "matrices": lambda *to: matrices(*to, FP32),
    "matrices-bf16": lambda *to: matrices(*to, BF16),
}


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(2)
    torch.manual_seed(0)
    LOOPS[name](folder, Gate())


if __name__ == "__main__":
    main()
