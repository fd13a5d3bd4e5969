"""What the sites are called in other tools, so that results can be compared and hooks be written elsewhere."""

from __future__ import annotations

__all__ = ["other_names"]

_TRANSFORMER_LENS = {
    "ffn": "{blocks}.{i}.mlp.hook_post",
    "attention": "{blocks}.{i}.attn.hook_z, heads side by side",
    "cross_attention": "{blocks}.{i}.cross_attn.hook_z, heads side by side",
    "hidden": "{blocks}.{i-1}.hook_resid_post, layer 0 {blocks}.0.hook_resid_pre (hook_normalized_resid_post where "
    "norms follow the blocks)",
}
_EXPERTS = "blocks.{i}.mlp.experts.{e}.hook_post, only the positions sent to expert {e} (HookedTransformer, Mixtral)"
_HIDDEN_STATES = "outputs.{of}hidden_states[i] of output_hidden_states=True (its last one may have passed a final norm)"


def other_names(site: str, path: str, *, experts: bool = False, two_stacks: bool = False) -> dict[str, str]:
    """The names of a site by tool, for layer {i}; `path` is the module's path with {i} or * for the layer.

    Where the neurons are those of `experts`, tools that look at what modules are given have no name for them:
    transformers stacks the experts' weights in one module. `two_stacks` says that the model has an encoder and a
    decoder.

    >>> other_names("ffn", "model.layers.{i}.mlp.down_proj")["TransformerLens"]
    'blocks.{i}.mlp.hook_post'
    >>> other_names("encoder.ffn", "encoder.block.{i}.layer.1.DenseReluDense.wo", two_stacks=True)["TransformerLens"]
    'encoder.{i}.mlp.hook_post'
    """
    if experts:
        return {"TransformerLens": _EXPERTS}
    stack, _, name = site.rpartition(".")
    stack = stack or ("decoder" if two_stacks else "")
    names = {"TransformerLens": _TRANSFORMER_LENS[name].replace("{blocks}", stack or "blocks")}
    if name == "hidden":
        return names | {"transformers": _HIDDEN_STATES.replace("{of}", f"{stack}_" if stack else "")}
    return names | {"baukit": f'Trace(model, "{path}", retain_input=True).input', "nnsight": f"model.{path}.input"}
