"""Hugging Face's format: the export of a finished model, and the guide's own checkpoints.

transformers is imported here only, once, at the end of a training: opening one of the guide's
checkpoints is a renaming that needs torch alone.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from model import GPT, ModelConfig
from session import Refusal, flush_folder

NOT_WEIGHTS = re.compile(r"lm_head\.weight|.*\.attn\.(bias|masked_bias)")  # tied, and constants


@torch.no_grad()
def export(model: GPT, tokenizer_file: Path, end_of_text: int, folder: Path) -> None:
    """Write the model and its tokenizer in Hugging Face's format, complete or not at all.

    Goes through transformers, so that AutoModelForCausalLM and AutoTokenizer open the folder.
    """
    from tokenizers import Tokenizer  # noqa: PLC0415 - as below
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - three seconds, last session

    unfinished = folder.with_name(f"{folder.name}.tmp")
    for stale in (unfinished, folder):
        if stale.exists():
            shutil.rmtree(stale)
    exported = to_hugging_face(model, end_of_text)
    exported.save_pretrained(unfinished)
    # The guide's file name; save_pretrained itself writes model.safetensors only.
    torch.save(exported.state_dict(), unfinished / "pytorch_model.bin")
    word = Tokenizer.from_file(str(tokenizer_file)).id_to_token(end_of_text)
    PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer_file),
        model_max_length=model.config.block_tokens,
        bos_token=word,
        eos_token=word,
        unk_token=word,
    ).save_pretrained(unfinished)
    for path in unfinished.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    flush_folder(unfinished)
    unfinished.replace(folder)
    flush_folder(folder.parent)


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
            attn_pdrop=config.attention_dropout,
            bos_token_id=end_of_text,
            eos_token_id=end_of_text,
        )
    )
    weights = {name: tensor.float().cpu() for name, tensor in to_theirs(model.state_dict(), config)}
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    exported.load_state_dict(weights)
    return exported


def to_theirs(tensors: dict, config: ModelConfig) -> Iterator[tuple[str, torch.Tensor]]:
    """Our tensors by Hugging Face's names: no padded rows, linear weights (inputs, outputs)."""
    for name, tensor in tensors.items():
        kept = tensor[: config.vocab_size] if name == "wte.weight" else tensor
        yield f"transformer.{name}", kept.T if is_linear(name, kept) else kept


def to_ours(name: str, tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """One of their tensors in our shape: padded rows are zero, linear weights transposed."""
    # Contiguous: fused AdamW reads moments in memory order, whatever strides a view has.
    tensor = tensor.T.contiguous() if is_linear(name, tensor) else tensor
    if name == "wte.weight" and len(tensor) < len(like):
        padding = torch.zeros(len(like) - len(tensor), tensor.shape[1])
        tensor = torch.cat([tensor.float(), padding])
    return tensor


def is_linear(name: str, tensor: torch.Tensor) -> bool:
    return name.startswith("h.") and tensor.dim() == 2


def take_over_guides(state: dict, model: GPT, optimizer: torch.optim.Optimizer) -> int:
    """Continue a checkpoint of the guide's own notebooks; returns its optimizer steps.

    Weights and Adam's moments are carried over. Its `step` counts micro-batches of one epoch; the
    scheduler, which was stepped once for each optimizer step, says how many there were, and with
    that the learning rate goes on from the right place of this template's schedule. Not carried
    over: its data order, which it never stored, and its validation loss, which counted padding.

    Raises:
        Refusal: another model, or no way to tell its moments or steps.
    """
    theirs = {}
    for key, tensor in state["model_state_dict"].items():
        name = key.removeprefix("module.").removeprefix("transformer.")  # DataParallel adds one
        if not NOT_WEIGHTS.fullmatch(name):
            theirs[name] = tensor
    ours = dict(model.named_parameters())
    weights = fit(theirs, ours, "the guide's checkpoint")
    moments, groups = state["optimizer_state_dict"]["state"], model_order(state, theirs)
    optimizer.load_state_dict(
        {
            "state": {
                number: {
                    "step": torch.as_tensor(float(moments[groups[name]]["step"])),
                    **{
                        key: to_ours(name, moments[groups[name]][key], ours[name])
                        for key in ("exp_avg", "exp_avg_sq")
                    },
                }
                for number, name in enumerate(optimizer_order(model, optimizer))
            },
            "param_groups": optimizer.state_dict()["param_groups"],
        }
    )
    model.load_state_dict(weights)
    step = state["scheduler_state_dict"].get("last_epoch")
    if not isinstance(step, int) or step < 0:
        detail = "its scheduler does not say how many optimizer steps were done (last_epoch)"
        raise Refusal("parent_mismatch", f"a checkpoint of the guide's notebook, but {detail}")
    print(f"a checkpoint of the guide's notebook, continued from optimizer step {step:,}")
    return step


def fit(theirs: dict, ours: dict, what: str) -> dict:
    """Their weights in our shapes; refused with the sizes if it is another model."""
    sizes = [
        f"{sum(name.endswith('ln_1.weight') for name in names)} layers x "
        f"{len(names['ln_f.weight']) if 'ln_f.weight' in names else '?'}"
        for names in (theirs, ours)
    ]
    detail = f"{what} is a model of {sizes[0]}, the settings are of {sizes[1]}"
    if theirs.keys() != ours.keys():
        raise Refusal("config_mismatch", f"{detail}; its parts differ")
    weights = {name: to_ours(name, theirs[name], ours[name]) for name in ours}
    wrong = [name for name in ours if weights[name].shape != ours[name].shape]
    if wrong:
        shapes = f"{wrong[0]} is {tuple(theirs[wrong[0]].shape)}"
        raise Refusal("config_mismatch", f"{detail}; {shapes}: choose the preset that fits")
    return weights


def model_order(state: dict, theirs: dict) -> dict[str, int]:
    """The optimizer's number of each parameter: the order in which the model lists them."""
    groups = state["optimizer_state_dict"]["param_groups"]
    numbers = [number for group in groups for number in group["params"]]
    known = state["optimizer_state_dict"]["state"].keys() >= set(numbers)
    if len(groups) != 1 or len(numbers) != len(theirs) or not known:
        detail = "its optimizer's moments cannot be told apart (one group, one entry a parameter)"
        raise Refusal("parent_mismatch", f"a checkpoint of the guide's notebook, but {detail}")
    return dict(zip(theirs, numbers, strict=True))


def optimizer_order(model: GPT, optimizer: torch.optim.Optimizer) -> list[str]:
    """Names of the parameters in the order of our optimizer's groups."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]
