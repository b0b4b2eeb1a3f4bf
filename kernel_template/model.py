"""The model: a GPT-2 of our own in one page, and its export to Hugging Face's format.

Written by hand rather than imported: transformers takes three seconds to import and changes between
two Kaggle images, while a chain that lasts weeks needs the same mathematics throughout. Only the
export of a finished model goes through transformers.
The names of the parts are GPT-2's (wte, wpe, h, ln_1, attn, ...), so that export is a renaming.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

VOCAB_MULTIPLE = 64  # rows of the embedding are padded to this: 50257 becomes 50304 (tensor cores)


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of one model; `vocab_size` is the tokenizer's, before padding."""

    n_layer: int
    n_head: int
    d_model: int
    block_tokens: int  # longest sequence, in tokens
    vocab_size: int
    dropout: float

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding: vocab_size rounded up to a multiple of VOCAB_MULTIPLE."""
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE


class Attention(nn.Module):
    """Causal self-attention; dropout is on its output alone, never on the attention weights.

    Dropout inside attention would force PyTorch onto its slow path (1.2x slower measured on CPU).
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.d_model, 3 * config.d_model)
        self.c_proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, x):  # (B, T, C) -> (B, T, C)
        B, T, C = x.shape
        q, k, v = self.c_attn(x).view(B, T, 3, self.n_head, C // self.n_head).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, heads, T, C / heads)
        return self.c_proj(y.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    """The feed-forward half of a block, four times as wide inside; GELU in its tanh form."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.c_fc = nn.Linear(config.d_model, 4 * config.d_model)
        self.c_proj = nn.Linear(4 * config.d_model, config.d_model)

    def forward(self, x):  # (B, T, C) -> (B, T, C)
        return self.c_proj(F.gelu(self.c_fc(x), approximate="tanh"))


class Block(nn.Module):
    """One layer: attention and feed-forward, each behind a LayerNorm and added to the stream."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.d_model)
        self.attn = Attention(config)
        self.ln_2 = nn.LayerNorm(config.d_model)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x):  # (B, T, C) -> (B, T, C)
        x = x + self.dropout(self.attn(self.ln_1(x)))
        return x + self.dropout(self.mlp(self.ln_2(x)))


class GPT(nn.Module):
    """GPT-2: token and position embeddings, n_layer blocks, an output head tied to the embedding."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.padded_vocab_size, config.d_model)
        self.wpe = nn.Embedding(config.block_tokens, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.d_model)
        self._initialise()

    def _initialise(self) -> None:
        """GPT-2's: N(0, 0.02); the two projections into the stream shrink with depth; biases 0."""
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.02 / (2 * self.config.n_layer) ** 0.5)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def hidden(self, tokens):  # (B, T) int64 -> (B, T, C)
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        x = self.dropout(x)
        for block in self.h:
            x = block(x)
        return self.ln_f(x)

    def forward(self, tokens):
        """Logits over the tokenizer's vocabulary, padded rows cut: (B, T) -> (B, T, vocab_size)."""
        return F.linear(self.hidden(tokens), self.wte.weight)[..., : self.config.vocab_size]


def loss(model: GPT, tokens, targets, reduction: str = "mean"):
    """Cross-entropy in nats of (B, T) targets; "mean" over tokens, or "sum".

    The place for a chunked form: at B=16, T=512 and 50257 words the logits alone take 1.6 GB.
    """
    logits = model(tokens).float()
    return F.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction=reduction
    )


def count_parameters(model: GPT) -> int:
    """All trained numbers, padded embedding rows included; the tied head counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def make_optimizer(model: GPT, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW; biases and norms do not decay.

    Fused on the CPU too: three times faster, and its last bits differ from the plain loop's, so
    that the choice must not depend on the machine.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)


@torch.no_grad()
def export(model: GPT, tokenizer, end_of_text: int, folder: Path) -> None:
    """Write the model and its tokenizer in Hugging Face's format, complete or not at all.

    Goes through transformers, so that AutoModelForCausalLM and AutoTokenizer open the folder.
    """
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - three seconds, last session

    unfinished = folder.with_name(f"{folder.name}.tmp")
    for stale in (unfinished, folder):
        if stale.exists():
            shutil.rmtree(stale)
    exported = to_hugging_face(model, end_of_text)
    exported.save_pretrained(unfinished)
    # The guide's file name; save_pretrained itself writes model.safetensors only.
    torch.save(exported.state_dict(), unfinished / "pytorch_model.bin")
    word = tokenizer.id_to_token(end_of_text)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=model.config.block_tokens,
        bos_token=word,
        eos_token=word,
        unk_token=word,
    ).save_pretrained(unfinished)
    unfinished.replace(folder)


def to_hugging_face(model: GPT, end_of_text: int):
    """Return the same model as a GPT2LMHeadModel on the CPU, in float32.

    Padded rows of the embedding are cut, and linear layers transposed: GPT-2 stores them as
    (inputs, outputs).
    """
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415 - as above

    config = model.config
    exported = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.block_tokens,
            n_embd=config.d_model,
            n_layer=config.n_layer,
            n_head=config.n_head,
            embd_pdrop=config.dropout,
            resid_pdrop=config.dropout,
            attn_pdrop=0.0,
            bos_token_id=end_of_text,
            eos_token_id=end_of_text,
        )
    )
    weights = {}
    for name, tensor in model.state_dict().items():
        kept = tensor[: config.vocab_size] if name == "wte.weight" else tensor
        is_linear = name.startswith("h.") and tensor.dim() == 2
        weights[f"transformer.{name}"] = (kept.T if is_linear else kept).float().cpu()
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    exported.load_state_dict(weights)
    return exported
