"""The model: a GPT-2 of our own in one page, and its loss over a large vocabulary.

Written by hand rather than imported: transformers takes three seconds to import and changes between
two Kaggle images, while a chain that lasts weeks needs the same mathematics throughout.
The names of the parts are GPT-2's (wte, wpe, h, ln_1, attn, ...), so that Hugging Face's format is
a renaming (hugging_face.py).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

VOCAB_MULTIPLE = 64  # rows of the embedding are padded to this: 50257 becomes 50304 (tensor cores)
HALF_SCALE = 16.0  # of the logits' gradients in float16, whose normal numbers end at 6e-5
LOSS_ROWS = 512  # tokens whose logits exist at one time: 103 MB of them in fp32 at 50304 words


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of one model; `vocab_size` is the tokenizer's, before padding."""

    n_layer: int
    n_head: int
    d_model: int
    block_tokens: int  # longest sequence, in tokens
    vocab_size: int
    dropout: float
    attention_dropout: float = 0.0

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding: vocab_size rounded up to a multiple of VOCAB_MULTIPLE."""
        return -(-self.vocab_size // VOCAB_MULTIPLE) * VOCAB_MULTIPLE


class Attention(nn.Module):
    """Causal self-attention.

    Dropout on the attention weights forces PyTorch's CPU kernel onto its slow path, so that it is
    off by default; dropout on the output is the block's.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.attention_dropout
        self.c_attn = nn.Linear(config.d_model, 3 * config.d_model)
        self.c_proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, x):  # (B, T, C) -> (B, T, C)
        B, T, C = x.shape
        q, k, v = self.c_attn(x).view(B, T, 3, self.n_head, C // self.n_head).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
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

    def forward(self, tokens, targets=None):
        """Logits (B, T, vocab_size) of tokens (B, T), padded rows cut.

        With targets (B, T): their mean cross-entropy in nats instead, a scalar in float32.
        """
        hidden = self.hidden(tokens)
        if targets is None:
            return F.linear(hidden, self.wte.weight)[..., : self.config.vocab_size]
        total = TiedCrossEntropy.apply(
            hidden.flatten(0, 1), self.wte.weight, targets.flatten(), self.config.vocab_size
        )
        return total / targets.numel()


class TiedCrossEntropy(torch.autograd.Function):
    """Summed cross-entropy of a tied head, in pieces of LOSS_ROWS tokens, gradients in the forward.

    All logits of one micro-batch of 16 x 512 tokens would take 1.6 GB, and their gradient as much
    again. Here one piece at a time is multiplied, turned into its gradient in place of its
    probabilities, and multiplied back, so that nothing is computed twice. (The method is Cut Your
    Losses' and Liger Kernel's, in plain PyTorch.)

    The backward pass brings its factor, a loss scale among them, too late for float16, in which a
    probability of 1 in 50,000 is no normal number. So float16 has a fixed scale of its own here:
    larger than what a loss scale of 65,536 leaves of itself after the mean over a step's tokens.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets, vocab_size):
        """hidden (N, C), weight (V padded, C), targets (N): a scalar in float32."""
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        with torch.autocast(kind, enabled=False):
            scale = HALF_SCALE if dtype == torch.float16 else 1.0
            rows, words = hidden.to(dtype), weight.to(dtype)
            learns = ctx.needs_input_grad[0]
            if learns:
                grad_hidden = torch.empty_like(rows)
                grad_weight = torch.zeros_like(weight)
            total = torch.zeros((), device=hidden.device)
            pieces = torch.empty(
                (min(LOSS_ROWS, len(rows)), len(words)), dtype=dtype, device=hidden.device
            )
            for first in range(0, len(rows), LOSS_ROWS):
                here = slice(first, first + LOSS_ROWS)
                x, y = rows[here], targets[here, None]
                logits = torch.mm(x, words.T, out=pieces[: len(x)])
                logits[:, vocab_size:] = -torch.inf
                top = logits.amax(1, keepdim=True).float()
                at_target = logits.gather(1, y).float()
                p = torch.softmax(logits, 1, dtype=torch.float32)
                # The largest probability is 1 / sum(exp(logits - top)): log-sum-exp without a pass.
                total += (top - p.amax(1, keepdim=True).log() - at_target).sum()
                if learns:
                    p[torch.arange(len(x), device=p.device), y[:, 0]] -= 1  # the logits' gradient
                    p = (p * scale).to(dtype) if scale != 1.0 else p.to(dtype)
                    torch.mm(p, words, out=grad_hidden[here])
                    if dtype == grad_weight.dtype:
                        grad_weight.addmm_(p.T, x)
                    else:
                        grad_weight += p.T @ x  # pieces add up in float32
        if learns:
            ctx.save_for_backward(grad_hidden, grad_weight)
            ctx.scale = scale
        return total

    @staticmethod
    def backward(ctx, grad):
        grad_hidden, grad_weight = ctx.saved_tensors
        grad = grad / ctx.scale
        return grad_hidden * grad, grad_weight * grad, None, None


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
