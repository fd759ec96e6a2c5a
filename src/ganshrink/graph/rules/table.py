"""Which rule reads which operator. Anything pointwise by torch's own tag needs no line here.

A rule gets the context, the graph node and the operator's arguments in the order of its schema, tensors as `Value`s. It
ties, freezes and consumes axes through the context, and returns the result's `Value`: for each axis its atoms or why its
size is fixed, and what a dead channel would hold. Only `context.flow` lets a branch through it be removed.
"""

from collections.abc import Callable
from typing import Any

import torch

from ganshrink.graph.context import operator_name
from ganshrink.graph.rules import along, concat, convolutions, layers, pointwise, products, reshape, shapes

Rule = Callable[..., Any]  # rule(context, node, *arguments) -> Value, or a list of them


def _table(rule: Rule, names: str) -> dict[str, Rule]:
    return {f"aten.{name}": rule for name in names.split()}


RULES: dict[str, Rule] = {
    **_table(convolutions.conv, "conv1d conv2d conv3d"),
    **_table(convolutions.conv_transpose, "conv_transpose1d conv_transpose2d conv_transpose3d"),
    **_table(convolutions.convolution, "convolution"),
    **_table(products.linear, "linear"),
    **_table(products.matmul, "matmul mm bmm mv dot"),
    **_table(products.addmm, "addmm"),
    **_table(products.baddbmm, "baddbmm"),
    **_table(products.einsum, "einsum"),
    **_table(products.embedding, "embedding"),
    **_table(products.attention, "scaled_dot_product_attention"),
    **_table(layers.batch_norm, "batch_norm instance_norm"),
    **_table(layers.group_norm, "group_norm"),
    **_table(layers.layer_norm, "layer_norm rms_norm"),
    **_table(
        layers.over_space,
        "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices avg_pool1d avg_pool2d avg_pool3d "
        "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
        "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
        "_adaptive_avg_pool2d upsample_nearest1d upsample_nearest2d upsample_nearest3d "
        "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d "
        "upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d "
        "_upsample_bilinear2d_aa _upsample_bicubic2d_aa "
        "reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d",
    ),
    **_table(layers.pad, "pad constant_pad_nd"),
    **_table(
        layers.reduce,
        "var_mean std_mean mean sum amax amin max min var std norm linalg_vector_norm prod any all logsumexp argmax argmin",
    ),
    **_table(layers.softmax, "softmax log_softmax _softmax _log_softmax"),
    **_table(layers.grid_sample, "grid_sampler grid_sampler_2d grid_sampler_3d"),
    **_table(pointwise.prelu, "prelu _prelu_kernel"),
    **_table(
        pointwise.same,
        "dropout dropout_ native_dropout feature_dropout feature_dropout_ alpha_dropout alpha_dropout_ "
        "feature_alpha_dropout feature_alpha_dropout_ real imag conj _conj resolve_conj "
        "resolve_neg _neg_view to _to_copy type_as "
        "contiguous detach detach_ alias lift_fresh_copy lift_fresh float clone rrelu_with_noise",
    ),
    **_table(pointwise.like, "zeros_like ones_like empty_like full_like rand_like randn_like new_zeros_like"),
    **_table(pointwise.constant, "zeros ones full new_zeros new_ones new_full new_empty"),
    **_table(pointwise.copy, "copy_"),
    **_table(pointwise.fill, "fill_ zero_"),
    **_table(
        pointwise.random,
        "normal_ uniform_ bernoulli bernoulli_ random_ exponential_ log_normal_ cauchy_ geometric_",
    ),
    **_table(
        pointwise.pointwise,
        # pointwise in fact, but not by the tag of every torch since 2.11
        "hardswish hardswish_ leaky_relu leaky_relu_ elu_ celu_ selu_ hardtanh_ hardsigmoid_ mish_ gelu_ relu6_ rrelu_ "
        "threshold_ clip_ masked_fill_ log_sigmoid floor_divide floor_divide_ multiply multiply_ subtract subtract_ "
        "complex polar "
        "divide divide_ true_divide_ absolute absolute_ negative negative_ fix greater greater_equal less less_equal "
        "not_equal arctan arctan2 arcsin arccos float_power_ rsub __and__ __or__ __xor__ __rsub__",
    ),
    **_table(shapes.permute, "permute"),
    **_table(shapes.transpose, "transpose transpose_ swapaxes swapaxes_ swapdims swapdims_"),
    **_table(shapes.transpose_matrix, "t t_ numpy_T mT"),
    **_table(shapes.movedim, "movedim moveaxis"),
    **_table(shapes.unsqueeze, "unsqueeze unsqueeze_"),
    **_table(shapes.squeeze, "squeeze squeeze_"),
    **_table(shapes.select, "select"),
    **_table(shapes.expand, "expand broadcast_to"),
    **_table(shapes.expand_as, "expand_as"),
    **_table(shapes.slice_, "slice"),
    **_table(shapes.narrow, "narrow"),
    **_table(shapes.chunk, "chunk"),
    **_table(shapes.split, "split split_with_sizes"),
    **_table(shapes.tensor_split, "tensor_split"),
    **_table(shapes.broadcast_tensors, "broadcast_tensors"),
    **_table(shapes.unbind, "unbind"),
    **_table(shapes.glu, "glu"),
    **_table(concat.cat, "cat concat concatenate"),
    **_table(concat.stack, "stack"),
    **_table(concat.repeat, "repeat"),
    **_table(concat.tile, "tile"),
    **_table(concat.repeat_interleave, "repeat_interleave"),
    **_table(concat.flip, "flip"),
    **_table(concat.roll, "roll"),
    **_table(concat.pixel_shuffle, "pixel_shuffle"),
    **_table(concat.pixel_unshuffle, "pixel_unshuffle"),
    **_table(concat.unfold, "im2col"),
    **_table(concat.fold, "col2im"),
    **_table(concat.channel_shuffle, "channel_shuffle native_channel_shuffle"),
    **_table(reshape.reshape, "reshape view _unsafe_view flatten unflatten view_as reshape_as"),
    **_table(
        along.along,
        "index_select gather cumsum cumsum_ cumprod cumprod_ logcumsumexp cummax cummin sort topk argsort median mode "
        "kthvalue diff take_along_dim index_fill index_fill_ index_add index_add_ index_copy index_copy_ "
        "scatter scatter_ scatter_add scatter_add_ scatter_reduce scatter_reduce_",
    ),
    **_table(along.index, "index"),
    **_table(along.index_put, "index_put index_put_"),
    **_table(along.triangle, "tril triu"),
    **_table(along.windows, "unfold"),
    **_table(along.as_pairs, "view_as_real"),
    **_table(along.as_complex, "view_as_complex"),
    **_table(
        along.fourier,
        "fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 "
        "fft_fftn fft_ifftn fft_rfftn fft_irfftn fft_fftshift fft_ifftshift",
    ),
    **_table(
        products.frozen,
        "one_hot addcdiv_ masked_scatter "
        "cdist cosine_similarity pairwise_distance bilinear max_unpool2d affine_grid_generator "
        "arange empty rand randn randint linspace scalar_tensor eye meshgrid "
        "new_tensor "
        "native_layer_norm native_group_norm _native_multi_head_attention _transformer_encoder_layer_fwd",
    ),
}

# Operators that compute nothing that a channel could be part of.
SILENT = {
    "aten._assert_tensor_metadata",
    "aten._assert_async",
    "aten._assert_scalar",
    "aten.sym_constrain_range",
}


def find_rule(target: Any, own: dict[str, Rule]) -> Rule | None:
    """The user's rule (by full or short name) before ours, ours before torch's pointwise tag."""
    name = operator_name(target)
    for key in (str(target), name, name.removeprefix("aten.")):
        if key in own:
            return own[key]
    if name in RULES:
        return RULES[name]
    if isinstance(target, torch._ops.OpOverload) and torch.Tag.pointwise in target.tags:
        return pointwise.pointwise
    return None
