"""What an override with an unknown path may have meant: by meaning, by its last part, then by its letters."""

import difflib
from collections.abc import Iterable, Mapping, Sequence

_MOST = 3  # a sentence with more paths is a list

# Names of other code bases, by the end of the path that has the meaning here.
_MEANINGS = {
    ("schedule.peak",): "lr learning_rate base_lr max_lr peak_lr blr",
    ("schedule.warmup",): "warmup_steps warmup_iters warmup_epochs warmup_ratio num_warmup_steps",
    ("schedule.final", "schedule.floor"): "min_lr end_lr final_lr lr_min",
    ("schedule",): "scheduler lr_schedule lr_scheduler",
    ("batch",): "bs batch_size global_batch_size train_batch_size",
    ("steps",): "epochs epoch num_epochs max_steps num_steps total_steps iters iterations max_iters",
    ("accumulate",): "accum accum_iter grad_accum accumulation_steps gradient_accumulation_steps",
    ("optimizer.decay",): "wd weight_decay",
    ("optimizer.layer_decay",): "llrd layerwise_decay layer_wise_decay",
    ("optimizer.clip",): "clip_grad grad_clip max_grad_norm gradient_clip_val max_norm",
    ("optimizer.betas",): "beta beta1 beta2 momentum opt_betas",
    ("optimizer.epsilon",): "eps opt_eps adam_epsilon",
    ("optimizer",): "opt optim",
    ("ema",): "ema_decay model_ema model_ema_decay",
    ("seed",): "random_seed rng_seed",
    ("dtype",): "precision mixed_precision amp fp16 bf16 fp32",
    ("remat",): "gradient_checkpointing grad_checkpoint use_checkpoint checkpointing recompute",
    ("scan_layers",): "scan",
    ("mesh.data",): "dp data_parallel devices gpus num_gpus world_size",
    ("mesh.tensor",): "tp tensor_parallel model_parallel",
    ("mesh.context",): "cp context_parallel sequence_parallel",
    ("init_from",): "init pretrained resume resume_from finetune load_from ckpt weights_file teacher_ckpt",
    ("init_fresh",): "fresh ignore_keys reset_head",
    ("trains",): "freeze frozen lr_mult param_groups",
    ("checkpoint.every",): "save_every save_interval save_freq save_steps ckpt_every",
    ("checkpoint.keep_last",): "keep max_checkpoints save_total_limit",
    ("log.every",): "log_every log_interval log_freq print_freq logging_steps",
    ("eval_loss.every", "evals.0.every"): "eval_every eval_interval eval_freq val_every eval_steps",
    ("corpora.0.path",): "data_path data_dir dataset dataset_path train_data anno_path corpus",
    ("eval_corpora.0.path",): "val_data eval_data val_path test_data",
    ("data.workers",): "num_workers workers_per_gpu dataloader_workers",
    ("data.mix.mixup",): "mixup_alpha",
    ("data.mix.cutmix",): "cutmix_alpha",
    ("data.mix.smoothing", "stage.smoothing"): "label_smoothing",
    ("video.augment",): "aug augmentation transform transforms",
    ("augment.flip",): "hflip horizontal_flip random_flip",
    ("augment.jitter",): "color_jitter colour_jitter",
    ("augment.crop",): "random_crop random_resized_crop rrc",
    ("augment.rand",): "aa auto_augment randaug rand_augment",
    ("augment.erase",): "reprob random_erasing",
    ("rule.frames", "student.frames", "encoder.frames", "vision.frames"): "num_frames n_frames clip_len",
    ("video.rule",): "sampling sampler frame_rule sample_rate sampling_rate",
    (
        "student.image",
        "encoder.image",
        "vision.image",
    ): "resolution img_size image_size input_size crop_size",
    ("student.patch", "encoder.patch", "vision.patch"): "patch_size",
    ("student.tubelet", "encoder.tubelet"): "tubelet_size temporal_patch",
    ("student.width", "encoder.width", "vision.width"): "embed_dim hidden_size dim hidden",
    ("student.depth", "encoder.depth", "vision.depth"): "num_layers n_layers num_blocks",
    ("student.heads", "encoder.heads", "vision.heads"): "num_heads n_heads num_attention_heads",
    ("student", "classifier.encoder", "encoder", "vision"): "model arch backbone",
    ("drop_path",): "drop_path_rate stochastic_depth droppath",
    ("stage.dropout",): "drop dropout_rate fc_drop_rate",
    ("classifier.classes",): "num_classes nb_classes n_classes",
    ("mask.ratio",): "mask_ratio masking_ratio",
    ("mask.kind",): "mask_type mask_strategy",
    ("contrast.temperature",): "temp tau logit_scale",
    ("clip_teacher", "mae_teacher"): "teacher teachers teacher_model",
    ("tokenizer.path",): "vocab vocabulary_file vocab_file tokenizer_path bpe",
    ("tokenizer.length",): "max_length max_tokens max_txt_l context_length seq_len",
}
MEANINGS: Mapping[str, Sequence[str]] = {
    name: ends for ends, names in _MEANINGS.items() for name in names.split()
}
"""The ends of the paths that are meant by a name which other code bases use."""


def suggestion(path: str, paths: Iterable[str]) -> str:
    """Returns the end of a sentence that says which of `paths` an unknown path may have meant, or ""."""
    known = list(dict.fromkeys(paths))
    name = path.rpartition(".")[2].lower().replace("-", "_")
    # `step` is the end of a path, but whoever writes no more means `steps` as well.
    whole = [near for near in known if "." not in path + near and _likeness(path, near) > 0.85]
    found = whole + _ending(path, known)
    found = found or [near for end in MEANINGS.get(name, ()) for near in _ending(end, known)]
    found = found or _alike(path, name, known)
    named = [repr(near) for near in dict.fromkeys(found)][:_MOST]
    if not named:
        return ""
    *first, last = named
    return f"; did you mean {', '.join(first)} or {last}?" if first else f"; did you mean {last}?"


def _ending(path: str, known: Sequence[str]) -> list[str]:
    """The paths that end like one, by as many of its parts as there are such paths for; the nearest first."""
    parts = path.split(".")
    for start in range(len(parts)):
        end = ".".join(parts[start:])
        # A number alone is a place in a tuple and says nothing of what stands there.
        if end.isdecimal():
            break
        if start == 0 and end in known:
            return [end]
        if found := [near for near in known if near == end or near.endswith(f".{end}")]:
            return sorted(found, key=lambda near: -_likeness(path, near))
    return []


def _alike(path: str, name: str, known: Sequence[str]) -> list[str]:
    """The path whose letters are most like one's: at the same place, then anywhere, then by the last part."""
    place, dot, last = path.rpartition(".")
    beside = {near.rpartition(".")[2] for near in known if near.rpartition(".")[0] == place}
    # Unrelated short words are alike by half: the more candidates, the higher the bar.
    if near := difflib.get_close_matches(last, beside, n=1, cutoff=0.6 if place else 0.75):
        return [f"{place}{dot}{near[0]}"]
    if near := difflib.get_close_matches(path, known, n=1, cutoff=0.8):
        return near
    ends = {path.rpartition(".")[2] for path in known}
    alike = difflib.get_close_matches(name, ends, n=1, cutoff=0.8)
    return [found for end in alike for found in _ending(end, known)]


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()
