"""Verbs that look something up."""

from typing import Annotated

import typer

from ganshrink.cli.options import Json, OwnNet
from ganshrink.cli.terminal import answer, linted, show_examination

Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="CxHxW",
        help="the size of one input, `3x256x256` if not given, or the length of a vector; again for each further one",
        show_default=False,
    ),
]
PANEL = "Look things up"  # in --help

app = typer.Typer()


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `ganshrink profile resnet9 ngf=32 --input 3x256x256`, or `ganshrink profile my_pkg.nets:make`",
)
def profile(
    net: Annotated[
        str,
        typer.Argument(
            metavar="NET",
            help="a network, as `ganshrink nets` lists them, or MODULE:NAME of your own, such as my_pkg.nets:make: "
            "a function or class, imported from the installed packages or the working directory and called",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[OPTION=VALUE]...", help="options of the network, such as ngf=32", show_default=False
        ),
    ] = None,
    inputs: Inputs = None,
    json_: Json = False,
) -> None:
    """Count a network's parameters and multiply-accumulates (MACs), in both conventions."""
    from ganshrink.workflow import profile

    found = profile.profile(net, overrides or (), inputs or ())
    macs = found["macs"]
    answer(
        found,
        json_,
        f"{found['params']:,} parameters, {found['bytes'] / 1e6:.2f} MB as float32\n"
        f"{macs['exact']:,} MACs (exact)\n{macs['paper']:,} MACs (paper: transposed convolutions at output resolution)\n"
        f"{found['memory'] / 1e6:.2f} MB of activations at their peak, for one image\n"
        f"{found['prunable']} of {found['groups']} groups of channels can be pruned",
    )


@app.command(
    rich_help_panel=PANEL,
    epilog="Examples: `ganshrink lint resnet9 --target litert`, `ganshrink lint recipes/cat/quick.toml net.upsample=resize "
    "--target onnxruntime-web --target onnx-int8`, or `ganshrink lint runs/mine`",
)
def lint(
    net: Annotated[
        str,
        typer.Argument(
            metavar="NET|RECIPE|RUN",
            help="a network, as for `profile`; a recipe, whose network is meant; or a run or weights, whose student is",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="options of the network, such as upsample=resize; of a recipe its values, such as net.upsample=resize",
            show_default=False,
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RUNTIME",
            help="where it is to run, again for each further one: onnxruntime, onnx-fp16, onnx-int8, onnxruntime-web (or "
            "-wasm, -webgpu), openvino, ncnn, executorch, coreml, litert; all if not given",
            show_default=False,
        ),
    ] = None,
    inputs: Inputs = None,
    uncut: OwnNet = None,
    json_: Json = False,
) -> None:
    """Say before training what runtimes lack of a network or run slowly, at which layers, and what avoids it."""
    from ganshrink.workflow.lint import lint_net

    found = lint_net(net, overrides or (), runtimes=target or (), inputs=inputs or (), original=uncut)
    answer(found, json_, linted(found))
    if any(one["severity"] == "fails" for one in found["findings"]):
        raise typer.Exit(1)


@app.command(
    rich_help_panel=PANEL,
    epilog="Example: `GANSHRINK_WEIGHTS=~/weights ganshrink fetch squeezenet`. Addresses are those of the weights' authors; "
    "`--source` takes another one of the same file.",
)
def fetch(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="such as `squeezenet`; without it, the list")
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="URL", help="another address of the same file")
    ] = None,
    json_: Json = False,
) -> None:
    """Download the weights of a network that judges pictures, check them, and go on where a download broke off."""
    from ganshrink.metrics import released

    if name is None:
        known = {name: f"{one.setting}, {one.address} (not tried)" for name, one in released.RELEASED.items()}
        answer(known, json_, "\n".join(f"{name}  {about}" for name, about in known.items()))
        return
    file = released.fetch(name, source=source)
    setting = released.RELEASED[name].setting
    answer({"file": str(file), "setting": setting}, json_, f"{file}, for {setting} = '{file.name}'")


@app.command(rich_help_panel=PANEL)
def nets(json_: Json = False) -> None:
    """List the built-in networks and their options, and those that installed packages register."""
    from ganshrink.cli.listing import list_nets

    listing, lines = list_nets()
    answer(listing, json_, lines)


@app.command(rich_help_panel=PANEL)
def methods(json_: Json = False) -> None:
    """List the methods, and those that installed packages register."""
    from ganshrink.cli.listing import list_methods

    listing, lines = list_methods()
    answer(listing, json_, lines)


@app.command(rich_help_panel=PANEL)
def doctor(
    full: Annotated[
        bool, typer.Option("--full", help="also trace, cut and export a tiny generator, which takes a while")
    ] = False,
    json_: Json = False,
) -> None:
    """Say what is installed and found here, and try it: what torch computes, and files that are written and read."""
    from ganshrink.workflow.doctor import examine

    found = examine(full=full)
    if json_:
        answer(found, json_, "")
    else:
        show_examination(found)
    if not found["self_test"]["passed"]:
        raise typer.Exit(1)
