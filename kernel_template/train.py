"""The training on one page: configuration, data, model, resume, loop, final report.

Started by launch.py, once for each GPU. Everything but model, optimizer and scaler is a pure
function of the step: learning rate, block order, dropout. So a chain of sessions computes what one
long session would have: bit for bit on the same hardware and software with repeatable kernels.
Two GPUs compute what one would have, to rounding.
"""

import math
import os
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import hugging_face
import model as gpt
import numpy as np
import torch
from checkpoint import BEST, CheckpointFolder, describe_final, is_ours, open_checkpoint
from data import count_blocks, epoch_of, load_data, micro_seed, read_blocks, sample_ids
from device import (
    THREADS,
    choose_precision,
    device_names,
    join_processes,
    read_fingerprint,
    read_rng,
    restore_rng,
    software_versions,
)
from parameters import (
    Parameters,
    Settings,
    parse_parameters,
    read_parameters,
    refuse_other_settings,
)
from saver import Saver
from search import find_start, take_over
from session import (
    CONTRACT,
    Ending,
    Refusal,
    Session,
    find_paths,
    pretended_gpus,
    session_started_at,
    write_atomically,
)

MIN_LOSS_SCALE = 1e-4  # fairseq's: below it gradients are broken, not just large
HISTORY_POINTS = 2000  # resolution of the curve over the whole training
PROGRESS_SECONDS = {"rehearsal": 0.5}  # least time between two step lines, where not 3 s


def train(session: Session, parameters: Parameters) -> Ending:
    """Train until all steps are done, or this session's share of steps or time, or a signal."""
    s = parameters.settings
    paths = session.paths

    # ---- configuration: what was decided is printed, one line each
    cuda = parameters.accelerator["kind"] == "gpu" and pretended_gpus() is None
    rank, processes = join_processes(cuda=cuda)
    device = torch.device("cuda", rank) if cuda else torch.device("cpu")
    precision = choose_precision(s.precision, cuda=cuda)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    autocast = torch.autocast(device.type, dtype, enabled=precision != "fp32")
    torch.set_num_threads(max(1, THREADS // processes))
    repeatable = not cuda or s.exact == "bitwise"  # costs nothing on the CPU
    torch.use_deterministic_algorithms(repeatable)
    torch.utils.deterministic.fill_uninitialized_memory = False
    names = device_names(cuda=cuda)
    fingerprint = read_fingerprint(
        device,
        precision=precision,
        processes=processes,
        repeatable=repeatable,
        micro_batch=[s.batch_size, s.accumulation],  # each is a draw of dropout
    )
    session.facts["devices"] = {"kind": device.type, "names": names, "count": len(names)}
    session.facts["versions"] = software_versions()
    print(f"device: {device.type} ({', '.join(names)}), {processes} process(es), {precision}")

    # ---- the checkpoint to start from
    found = find_start(paths, parameters)
    state = open_checkpoint(found.place) if found else None
    resumes = found is not None and is_ours(state)  # a guide's checkpoint is only taken over
    if found and found.origin == "own" and found.is_complete:
        session.facts.update(training_complete=True, last_step=found.entry["step"])
        return Ending("complete", None, "the training was complete before this start")
    if resumes:
        refuse_other_settings(s, state["config"])

    # ---- data
    data = load_data(Path(os.environ["KCHAIN_DATA_DIR"]))
    identity = {f"data_{key}": data.facts[key] for key in ("sha256", "train_tokens")}
    identity["tokenizer_sha256"] = data.facts["tokenizer_sha256"]
    for key, value in identity.items():
        if resumes and state[key] != value:
            detail = f"{data.facts['source']}: {key} is {value}, in the checkpoint {state[key]}"
            raise Refusal("data_mismatch", detail)
    blocks = count_blocks(data.train, s.block_tokens)
    train_tokens = torch.from_numpy(data.train.astype(np.int32)).to(device)  # 0.5 GB: WikiText-103
    val_tokens = torch.from_numpy(data.validation.astype(np.int32)).to(device)
    val_blocks = min(s.evaluation_blocks, count_blocks(data.validation, s.block_tokens))
    print(f"data: {data.facts['source']}; {len(data.train):,} tokens, {blocks:,} blocks")

    # ---- schedule
    blocks_per_step = s.batch_size * s.accumulation
    tokens_per_step = blocks_per_step * s.block_tokens
    total_steps = min(s.max_steps, -(-s.epochs * blocks // blocks_per_step))
    history_every = max(1, total_steps // HISTORY_POINTS)
    print(
        f"schedule: {total_steps:,} steps of {tokens_per_step:,} tokens "
        f"({s.batch_size} x {s.accumulation} blocks of {s.block_tokens})"
    )

    # ---- model, optimizer, scaler
    torch.manual_seed(s.seed)
    sizes = (s.n_layer, s.n_head, s.d_model, s.block_tokens, s.vocab_size)
    config = gpt.ModelConfig(*sizes, s.dropout, s.attention_dropout)
    model = gpt.GPT(config).to(device)
    optimizer = gpt.make_optimizer(model, s.learning_rate, s.weight_decay)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    parallel = model  # what the loop calls: with several processes it averages their gradients
    session.facts["parameters_count"] = gpt.count_parameters(model)
    print(f"model: {gpt.count_parameters(model):,} parameters, {s.n_layer} layers x {s.d_model}")

    # ---- loop state: declared, restored and saved in the same order
    step = 0  # optimizer steps done, over the whole chain
    epoch = 1  # the one that contains this step
    best_val_loss = None  # lowest at a scheduled validation
    epoch_losses = {"sum": 0.0, "steps": 0}  # for the epoch's mean
    history = {"contract": CONTRACT, "steps": [], "validations": [], "epochs": [], "sessions": []}
    train_loss = val_loss = None  # at this very step
    exact = "bitwise" if repeatable else "state"  # what holds since the chain's first step
    slowest_step_seconds = slowest_evaluation_seconds = 0.0  # of this session
    if resumes:
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
        exact = state["lineage"]["exact"] if state["fingerprint"] == fingerprint else "state"
        restore_rng(state["rng"])
    elif state:
        step = hugging_face.take_over_guides(state, model, optimizer)
        epoch = epoch_of(s, blocks, step)
        exact = "state"
        if step >= total_steps:
            detail = f"the guide's checkpoint has done {step:,} steps, max_steps is {total_steps:,}"
            raise Refusal("config_mismatch", f"{detail}: raise max_steps, or epochs")
    if processes > 1:
        parallel = torch.nn.parallel.DistributedDataParallel(
            model, device_ids=[device] if cuda else None, broadcast_buffers=False
        )

    def pack() -> dict:  # plain tensors and JSON scalars: opens with weights_only=True
        return {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "scaler": scaler.state_dict(),
            "step": step,
            "epoch": epoch,
            "best_val_loss": best_val_loss,
            "epoch_losses": {**epoch_losses},
            "history": {
                key: [*value] if isinstance(value, list) else value
                for key, value in history.items()
            },
            "train_loss": train_loss,
            "val_loss": val_loss,
            "rng": read_rng(),  # nothing needs it: every draw below is seeded by its step
            # what follows is not restored but recomputed or compared
            "contract": CONTRACT,
            "data_position": {"epoch": epoch, "blocks_read": step * blocks_per_step},
            "scheduler": {"learning_rate": learning_rate(s, total_steps, step)},
            "config": vars(s),
            "fingerprint": fingerprint,
            **identity,
            "lineage": {**session.identity, "parent_sha256": parent_sha256, "exact": exact},
            "created_at": time.time(),
        }

    def agree(*values: float) -> list[float]:
        """The sums over all processes, so that they all decide alike."""
        if processes == 1:
            return [*values]
        row = torch.tensor(values, dtype=torch.float64, device=device)
        torch.distributed.all_reduce(row)
        return row.tolist()

    def evaluate() -> float:
        """Mean loss, in nats per token, of the first validation blocks; draws nothing at random."""
        session.spend("evaluate")
        model.eval()
        total = torch.zeros((), dtype=torch.float64, device=device)
        with torch.no_grad(), autocast:
            for first in range(rank * s.batch_size, val_blocks, processes * s.batch_size):
                ids = np.arange(first, min(first + s.batch_size, val_blocks))
                inputs, targets = read_blocks(val_tokens, ids, s.block_tokens)
                total += model(inputs, targets) * targets.numel()
        model.train()
        (total,) = agree(total.item())
        nonlocal slowest_evaluation_seconds
        slowest_evaluation_seconds = max(slowest_evaluation_seconds, session.spend("train"))
        return require_finite(total / (val_blocks * s.block_tokens), "validation loss", step)

    def save(*, best: bool, final: list[dict] | None = None) -> None:
        if rank > 0:
            return
        session.spend("save")
        verdict = session.render_verdict("running")

        def report(entry: dict) -> None:  # in the writer's thread, when the save is durable
            write_atomically(paths.verdict, verdict)
            named = {"step": entry["step"], "epoch": entry["epoch"], "file": entry["name"]}
            session.progress("checkpoint", **named, sha256=entry["sha256"])

        saver.begin(pack(), best=best, final=final, saved=report)
        session.spend("train")

    # ---- resume
    folder = CheckpointFolder(paths.checkpoints, parameters)
    if rank == 0:
        take_over(found, folder)
    if agree(BEST in folder.entries) == [0]:
        best_val_loss = None  # nothing to compare with any more: the next validation is the best
    history["chain"] = parameters.chain
    place = {"session": parameters.session, "attempt": parameters.attempt}
    if not found or found.origin != "own":
        history["sessions"].append({**place, "first_step": step, "exact": exact})
    first_step = history["sessions"][-1]["first_step"]
    parent_sha256 = found.entry["sha256"] if found else None
    if found and found.origin == "own":
        parent_sha256 = state["lineage"]["parent_sha256"]
    if found:
        name, sha256 = found.entry["name"], found.entry["sha256"]
        print(f"resuming from {name} (sha256 {sha256}): {exact}")
        if resumes and (changed := differences(state["fingerprint"], fingerprint)):
            print(f"the last bits may differ from here on: {changed}")
        stored = val_loss
        recomputed = evaluate() if stored is not None else None
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
    del state
    stop_step = min(total_steps, first_step + (s.steps_per_session or total_steps))
    session.facts.update(first_step=first_step, last_step=step, exact=exact)
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

    def asked_to_end() -> tuple[int, bool]:
        """The signal that came, and whether time is up; only the first process's count."""
        if rank > 0:
            return 0, False
        needed = slowest_step_seconds + slowest_evaluation_seconds
        return session.signal_number or 0, session.seconds_left() < needed

    def find_ending(told: float, is_late: float) -> Ending | None:
        if step >= total_steps:
            return Ending("complete", None, f"all {total_steps} steps are done")
        if step >= stop_step:
            return Ending("stopped", None, "session's share of steps is done")
        if told:
            name = signal.Signals(round(told)).name
            return Ending("stopped", "signal", f"{name} came by step {step}")
        if is_late:
            return Ending("out_of_time", None, f"no time is left for step {step + 1}")
        return None

    # ---- the loop
    session.spend("train")
    saved_step, saved_at = step, time.monotonic()
    line_step, line_at = step, time.monotonic()
    improved = False
    ending = find_ending(*agree(*asked_to_end()))
    with Saver(folder, pinned=cuda) as saver:
        while ending is None:
            # one optimizer step
            began_at = time.monotonic()
            lr = learning_rate(s, total_steps, step)
            for group in optimizer.param_groups:
                group["lr"] = lr
            loss_sum = torch.zeros((), device=device)
            for micro in range(rank, s.accumulation, processes):
                torch.manual_seed(micro_seed(s.seed, step, micro))
                ids = sample_ids(s, blocks, step, micro)
                inputs, targets = read_blocks(train_tokens, ids, s.block_tokens)
                more = processes > 1 and micro + processes < s.accumulation
                with parallel.no_sync() if more else nullcontext():
                    with autocast:
                        loss = parallel(inputs, targets)
                    scaler.scale(loss * (processes / s.accumulation)).backward()
                loss_sum += loss.detach()
            unsaved_seconds = time.monotonic() - saved_at + slowest_step_seconds  # one step on
            due = rank == 0 and unsaved_seconds >= s.checkpoint_seconds
            loss_sum, due, *asked = agree(loss_sum.item(), due, *asked_to_end())
            train_loss = require_finite(loss_sum / s.accumulation, "training loss", step + 1)
            scaler.unscale_(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), s.gradient_clip)
            if not scaler.is_enabled():
                require_finite(norm.item(), "gradient's norm", step + 1)
            scaler.step(optimizer)  # fp16: leaves the step out if a gradient overflowed
            scaler.update()
            if scaler.is_enabled() and scaler.get_scale() < MIN_LOSS_SCALE:
                require_finite(math.inf, "gradient, at every loss scale,", step + 1)
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
            session.longest_save_seconds = saver.longest_seconds
            ending = find_ending(*asked)

            # now and then: a line, a validation, a save. What is validated when depends on the
            # step alone, so that history and best model are the same however the chain is cut.
            if session.step_line_due(PROGRESS_SECONDS.get(parameters.preset, 3.0)) or ending:
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
                ending = ending or find_ending(*agree(*asked_to_end()))
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
            due = due or step % s.checkpoint_steps == 0
            if (due or improved or ends_epoch) and ending is None:
                save(best=improved)
                saved_step, saved_at = step, time.monotonic()

        # ---- final report: the last save carries a validation loss, unless a signal hurries us
        final = None
        if val_loss is None and step > saved_step and ending.reason != "signal":
            val_loss = evaluate()
            session.progress("validation", step=step, epoch=epoch, loss=val_loss)
        session.spend("save")
        # The export comes before the save: a training whose last step is saved but that could not
        # be exported has no further step to give, and nothing that the chain could accept.
        if ending.outcome == "complete" and rank == 0:
            saver.finish()
            saver.require_room(2 * 4 * gpt.count_parameters(model))  # two formats, float32
            target = paths.checkpoints / "final_model"
            hugging_face.export(model, data.tokenizer_file, data.facts["end_of_text"], target)
            final = describe_final(target)
            session.facts["training_complete"] = True
        if step > saved_step or final:
            save(best=improved, final=final)
        session.spend("save")
        saver.finish()
    if processes > 1:
        torch.distributed.destroy_process_group()
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


def differences(before: dict, now: dict) -> str:
    """What two fingerprints do not share, for a person; empty if nothing."""
    keys = [key for key in now if before.get(key) != now[key]]
    return ", ".join(f"{key} was {before.get(key)}, is {now[key]}" for key in keys)


def is_out_of_memory(error: Exception) -> bool:
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def explain_memory(s: Settings) -> str:
    """Which settings to change when memory ran out: the step stays the same."""
    if s.batch_size == 1:
        return "batch_size is 1 already: lower block_tokens, d_model or n_layer, in a new chain"
    smaller = next(size for size in range(s.batch_size // 2, 0, -1) if s.batch_size % size == 0)
    more = s.accumulation * s.batch_size // smaller
    return (
        f"set batch_size = {smaller} and accumulation = {more} in place of "
        f"{s.batch_size} and {s.accumulation}: the chain goes on, a step stays the same"
    )


def main() -> None:
    paths = find_paths()
    raw = read_parameters(paths)
    silent = os.environ.get("RANK", "0") != "0"
    if silent:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - to the end of the process
    session = Session(raw, paths, session_started_at(paths), silent=silent)
    session.catch_signals()
    failed = False
    try:
        parameters = parse_parameters(raw)
        ending = train(session, parameters)
    except Ending as raised:
        ending, failed = raised, True
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not is_out_of_memory(error):
            raise
        detail = f"{explain_memory(parameters.settings)} ({str(error).partition('.')[0]})"
        ending, failed = Ending("failed", "out_of_memory", detail), True
    session.finish(ending)
    if failed:  # so that torchrun ends the other processes, which may wait for this one
        print(f"{ending.outcome} ({ending.reason}): {ending.detail}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
