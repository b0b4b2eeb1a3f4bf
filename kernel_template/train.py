"""The training on one page: configuration, data, model, resume, loop, final report.

Started by launch.py, and by hand just the same: `python train.py`. Everything but model, optimizer
and scaler is a pure function of the step: learning rate, block order, dropout. So a chain of
sessions computes what one long session would have, bit for bit on the same CPU and software.
"""

import math
import signal
import time

import model as gpt
import numpy as np
import torch
from checkpoint import BEST, CheckpointFolder, describe_final, open_checkpoint
from data import count_blocks, epoch_of, load_data, micro_seed, read_blocks, sample_ids
from device import choose_precision, device_names, read_rng, restore_rng, software_versions
from parameters import (
    Parameters,
    Settings,
    parse_parameters,
    read_parameters,
    refuse_other_settings,
)
from search import find_start, take_over
from session import CONTRACT, Ending, Refusal, Session, find_paths, session_started_at

THREADS = 2  # fixed: another number of threads would give other last bits
HISTORY_POINTS = 2000  # resolution of the curve over the whole training
PROGRESS_SECONDS = {"rehearsal": 0.5, "wikitext103": 3.0}  # least time between two step lines


def train(session: Session, parameters: Parameters) -> Ending:
    """Train until all steps are done, or this session's share of steps or time, or a signal."""
    s = parameters.settings
    paths = session.paths

    # ---- configuration: what was decided is printed, one line each
    cuda = parameters.accelerator["kind"] == "gpu"
    device = torch.device("cuda" if cuda else "cpu")
    precision = choose_precision(s.precision, cuda=cuda)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    autocast = torch.autocast(device.type, dtype, enabled=precision != "fp32")
    torch.set_num_threads(THREADS)
    if not cuda:  # on CUDA this would cost speed, and forbid operations; the CPU does it for free
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    names, versions = device_names(cuda=cuda), software_versions()
    session.facts["devices"] = {"kind": device.type, "names": names, "count": len(names)}
    session.facts["versions"] = versions
    fingerprint = {**versions, "device": names[0], "threads": THREADS, "precision": precision}
    print(f"device: {device.type} ({names[0]}), {THREADS} threads, {precision}")

    # ---- the checkpoint to start from, refused before it costs the time that the data takes
    found = find_start(paths, parameters)
    state = open_checkpoint(found.place) if found else None
    if found and found.origin == "own" and found.manifest["training_complete"]:
        return Ending("complete", None, "the training was complete before this start")
    if state:
        refuse_other_settings(s, state["config"])

    # ---- data
    session.spend("data")
    data = load_data(s, paths.input)
    for key, value in (("data_sha256", data.sha256), ("tokenizer_sha256", data.tokenizer_sha256)):
        if state and state[key] != value:
            raise Refusal("data_mismatch", f"{data.source}: {key} is not the checkpoint's")
    data_seconds = session.spend("startup")
    blocks = count_blocks(data.train, s.block_tokens)
    train_tokens = torch.from_numpy(data.train.astype(np.int32)).to(device)  # 0.5 GB: WikiText-103
    val_tokens = torch.from_numpy(data.validation.astype(np.int32)).to(device)
    val_blocks = min(s.evaluation_blocks, count_blocks(data.validation, s.block_tokens))
    print(f"data: {data.source}; {len(data.train):,} tokens, {blocks:,} blocks")
    session.progress("data", message=data.source, seconds=round(data_seconds, 2))

    # ---- schedule
    blocks_per_step = s.batch_size * s.accumulation
    tokens_per_step = blocks_per_step * s.block_tokens
    total_steps = min(s.max_steps, -(-s.epochs * blocks // blocks_per_step))
    history_every = max(1, total_steps // HISTORY_POINTS)
    print(f"schedule: {total_steps:,} steps of {tokens_per_step:,} tokens")

    # ---- model, optimizer, scaler
    torch.manual_seed(s.seed)
    sizes = (s.n_layer, s.n_head, s.d_model, s.block_tokens, s.vocab_size, s.dropout)
    model = gpt.GPT(gpt.ModelConfig(*sizes)).to(device)
    optimizer = gpt.make_optimizer(model, s.learning_rate, s.weight_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    session.facts["parameters_count"] = gpt.count_parameters(model)
    print(f"model: {gpt.count_parameters(model):,} parameters, {s.n_layer} layers x {s.d_model}")

    # ---- loop state: declared, restored and saved in the same order
    step = 0  # optimizer steps done, over the whole chain
    epoch = 1  # the one that contains this step
    best_val_loss = None  # lowest at a scheduled validation
    epoch_losses = {"sum": 0.0, "steps": 0}  # for the epoch's mean
    history = {"contract": CONTRACT, "steps": [], "validations": [], "epochs": [], "sessions": []}
    train_loss = val_loss = None  # at this very step
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if state["scaler"] and scaler.is_enabled():
            scaler.load_state_dict(state["scaler"])
        step = state["step"]
        epoch = state["epoch"]
        best_val_loss = state["best_val_loss"]
        epoch_losses = state["epoch_losses"]
        history = state["history"]
        train_loss, val_loss = state["train_loss"], state["val_loss"]
        restore_rng(state["rng"])

    def pack() -> dict:  # plain tensors and JSON scalars: opens with weights_only=True
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
            "step": step,
            "epoch": epoch,
            "best_val_loss": best_val_loss,
            "epoch_losses": epoch_losses,
            "history": history,
            "train_loss": train_loss,
            "val_loss": val_loss,
            "rng": read_rng(),  # a cross-check: every draw below is seeded by its step
            # what follows is not restored but recomputed or compared
            "contract": CONTRACT,
            "data_position": {"epoch": epoch, "blocks_read": step * blocks_per_step},
            "scheduler": {"learning_rate": learning_rate(s, total_steps, step)},
            "config": vars(s),
            "fingerprint": fingerprint,
            "data_sha256": data.sha256,
            "tokenizer_sha256": data.tokenizer_sha256,
            "lineage": {**session.identity, "parent_sha256": parent_sha256},
            "created_at": time.time(),
        }

    def evaluate() -> float:
        """Mean loss, in nats per token, of the first validation blocks; draws nothing at random."""
        session.spend("evaluate")
        model.eval()
        total = 0.0
        with torch.no_grad(), autocast:
            for first in range(0, val_blocks, s.batch_size):
                ids = np.arange(first, min(first + s.batch_size, val_blocks))
                inputs, targets = read_blocks(val_tokens, ids, s.block_tokens)
                total += gpt.loss(model, inputs, targets, "sum").item()
        model.train()
        session.spend("train")
        return require_finite(total / (val_blocks * s.block_tokens), "validation loss", step)

    folder = CheckpointFolder(paths.checkpoints, parameters)

    def save(*, best: bool, final: list[dict] | None = None) -> None:
        session.spend("save")
        entry = folder.save(pack(), best=best, final=final)
        session.longest_save_seconds = max(session.longest_save_seconds, session.spend("train"))
        named = {key: entry[key] for key in ("step", "epoch")}
        session.progress("checkpoint", **named, file=entry["name"], sha256=entry["sha256"])

    # ---- resume
    take_over(found, folder)
    if BEST not in folder.entries:
        best_val_loss = None  # nothing to compare with any more: the next validation is the best
    history["chain"] = parameters.chain
    place = {"session": parameters.session, "attempt": parameters.attempt}
    if not found or found.origin != "own":
        history["sessions"].append({**place, "first_step": step})
    first_step = history["sessions"][-1]["first_step"]
    parent_sha256 = found.entry["sha256"] if found else None
    if found and found.origin == "own":
        parent_sha256 = state["lineage"]["parent_sha256"]
    if found:
        name, sha256 = found.entry["name"], found.entry["sha256"]
        print(f"resuming from {name} (sha256 {sha256})")
        if state["fingerprint"] != fingerprint:
            print("software or device differ from the checkpoint's: last bits may differ too")
        stored, recomputed = val_loss, evaluate()
        print(f"validation loss: {stored} in the checkpoint, {recomputed} recomputed")
        session.facts["resumed_from"] = {
            "file": name,
            "step": step,
            "sha256": sha256,
            "val_loss": stored,
            "val_loss_recomputed": recomputed,
        }
        session.progress(
            "resume", step=step, epoch=epoch, file=name, sha256=sha256, loss=recomputed
        )
    stop_step = min(total_steps, first_step + (s.steps_per_session or total_steps))
    session.facts.update(first_step=first_step, last_step=step)
    session.write_verdict("running")
    print(f"steps: {step:,} done, to {stop_step:,} now; {session.seconds_left():,.0f} s of time")
    session.progress(
        "start",
        step=step,
        epoch=epoch,
        max_steps=total_steps,
        seconds_left=round(session.seconds_left()),
        parameters=gpt.count_parameters(model),
        device=names[0],
    )

    def find_ending() -> Ending | None:
        if step >= total_steps:
            return Ending("complete", None, f"all {total_steps} steps are done")
        if step >= stop_step:
            return Ending("stopped", None, "session's share of steps is done")
        if session.signal_number is not None:
            told = signal.Signals(session.signal_number).name
            return Ending("stopped", "signal", f"{told} came after step {step}")
        if session.seconds_left() < slowest_step_seconds:
            return Ending("out_of_time", None, f"no time is left for step {step + 1}")
        return None

    # ---- the loop
    session.spend("train")
    saved_step, saved_at = step, time.monotonic()
    line_step, line_at = step, time.monotonic()
    slowest_step_seconds = 0.0
    improved = False
    ending = find_ending()
    while ending is None:
        # one optimizer step
        began_at = time.monotonic()
        lr = learning_rate(s, total_steps, step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss_sum = torch.zeros((), device=device)
        for micro in range(s.accumulation):
            torch.manual_seed(micro_seed(s.seed, step, micro))
            ids = sample_ids(s, blocks, step, micro)
            inputs, targets = read_blocks(train_tokens, ids, s.block_tokens)
            with autocast:
                loss = gpt.loss(model, inputs, targets) / s.accumulation
            scaler.scale(loss).backward()
            loss_sum += loss.detach()
        train_loss = require_finite(loss_sum.item(), "training loss", step + 1)
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), s.gradient_clip)
        scaler.step(optimizer)  # fp16: leaves the step out if a gradient overflowed
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        epoch = epoch_of(s, blocks, step)
        epoch_losses["sum"] += train_loss
        epoch_losses["steps"] += 1
        here = {"step": step, "epoch": epoch}
        if step % history_every == 0:
            history["steps"].append({**here, "loss": train_loss, "lr": lr})
        session.facts["last_step"] = step
        session.facts["last_loss"] = train_loss
        if step == first_step + 1:
            session.facts["first_loss"] = train_loss
        slowest_step_seconds = max(slowest_step_seconds, time.monotonic() - began_at)
        ending = find_ending()

        # now and then: a line, a validation, a save. What is validated when depends on the step
        # alone, so that history and best model are the same however the chain is cut.
        if session.step_line_due(PROGRESS_SECONDS[parameters.preset]) or ending:
            speed = (step - line_step) * tokens_per_step / (time.monotonic() - line_at)
            left = round(session.seconds_left())
            session.progress(
                "step",
                **here,
                loss=train_loss,
                lr=lr,
                tokens_per_second=round(speed),
                seconds_left=left,
            )
            line_step, line_at = step, time.monotonic()
        ends_epoch = epoch_of(s, blocks, step + 1) > epoch
        val_loss, improved = None, False
        if step % s.evaluation_steps == 0 or ends_epoch or step == total_steps:
            val_loss = evaluate()
            perplexity = math.exp(min(val_loss, 700.0))  # beyond that a float overflows
            history["validations"].append({**here, "loss": val_loss, "perplexity": perplexity})
            session.progress("validation", **here, loss=val_loss)
            improved = best_val_loss is None or val_loss < best_val_loss
            best_val_loss = val_loss if improved else best_val_loss
        if ends_epoch:
            mean = epoch_losses["sum"] / epoch_losses["steps"]
            epoch_losses = {"sum": 0.0, "steps": 0}
            losses = {"train_loss": mean, "val_loss": val_loss, "perplexity": perplexity}
            history["epochs"].append({**here, **losses})
            print(
                f"Epoch {epoch}: Train Loss={mean:.4f}, Val Loss={val_loss:.4f}, "
                f"Perplexity={perplexity:.2f}"
            )
            session.progress("epoch", **here, loss=mean)
        waited = time.monotonic() - saved_at
        due = step % s.checkpoint_steps == 0 or waited >= s.checkpoint_seconds
        if (due or improved or ends_epoch) and ending is None:
            save(best=improved)
            session.write_verdict("running")
            saved_step, saved_at = step, time.monotonic()

    # ---- final report: the last save carries a validation loss, unless a signal hurries us
    final = None
    if val_loss is None and step > saved_step and ending.reason != "signal":
        val_loss = evaluate()
        session.progress("validation", step=step, epoch=epoch, loss=val_loss)
    if ending.outcome == "complete":
        session.spend("save")
        target = paths.checkpoints / "final_model"
        gpt.export(model, data.tokenizer, data.end_of_text, target)
        final = describe_final(target)
        session.facts["training_complete"] = True
    if step > saved_step or final:
        save(best=improved, final=final)
    return ending


def learning_rate(s: Settings, total_steps: int, step: int) -> float:
    """For the step after `step` done ones: linear warm-up, then a cosine down to the minimum."""
    if step < s.warmup_steps:
        return s.learning_rate * (step + 1) / s.warmup_steps
    progress = min(1.0, (step - s.warmup_steps) / max(1, total_steps - s.warmup_steps))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return s.min_learning_rate + cosine * (s.learning_rate - s.min_learning_rate)


def require_finite(loss: float, name: str, step: int) -> float:
    """Stop before a broken loss reaches the weights; the last good checkpoint stays."""
    if not math.isfinite(loss):
        raise Ending("failed", "nonfinite_loss", f"the {name} is {loss} at step {step}")
    return loss


def main() -> None:
    paths = find_paths()
    raw = read_parameters(paths)
    session = Session(raw, paths, session_started_at(paths))
    session.catch_signals()
    try:
        ending = train(session, parse_parameters(raw))
    except Ending as raised:
        ending = raised
    session.finish(ending)


if __name__ == "__main__":
    main()
