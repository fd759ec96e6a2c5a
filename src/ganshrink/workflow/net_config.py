"""The tables [net] and [student.net] of a recipe: which network, and what values it takes and gives."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from ganshrink import nets
from ganshrink.data import Images
from ganshrink.system.values import ValueRange, Values


class NetConfig(BaseModel):
    """The original generator. Whatever is not `name` is an option of the network."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str = Field(
        description="a network of this package, as `ganshrink nets` lists them with their options, "
        "or MODULE:NAME of your own, such as my_pkg.nets:make"
    )

    range: tuple[float, float] | None = Field(
        default=None,
        description="black and white in what the network takes and gives, such as [0, 1] or [0, 255]; none: as it ends in a "
        "sigmoid or its first outputs tell, else [-1, 1]",
    )
    mean: tuple[float, ...] | None = Field(
        default=None,
        description="what is taken from each channel of a network's normalised colours, such as ImageNet's [0.485, 0.456, "
        "0.406]; range is then that of colours before, [0, 1] if not given",
    )
    std: tuple[float, ...] | None = Field(
        default=None, description="by what they are divided then, such as [0.229, 0.224, 0.225]"
    )
    output_range: tuple[float, float] | None = Field(
        default=None,
        description="black and white in what the network gives, where it is another; none: as what it takes",
    )

    @property
    def options(self) -> dict[str, Any]:
        """What the network's constructor is given."""
        return dict(self.model_extra or {})

    def values(self) -> Values | None:
        """What the network takes and gives, where that is said."""
        if (self.range, self.mean, self.std, self.output_range) == (None,) * 4:
            return None
        normalised = self.mean is not None or self.std is not None
        taken = ValueRange(
            range=self.range or ((0, 1) if normalised else (-1, 1)),
            mean=self.mean or (0,),
            std=self.std or (1,),
        )
        return Values(input=taken, output=ValueRange(range=self.output_range) if self.output_range else taken)

    @model_validator(mode="after")
    def _has_values(self) -> Self:
        self.values()
        return self

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: Any) -> dict[str, Any]:
        """Runs of earlier versions are stamped with what stood here then."""
        new = {key for key in ("range", "mean", "std", "output_range") if getattr(self, key) is None}
        return {key: value for key, value in handler(self).items() if key not in new}


def with_channels(net: NetConfig, images: Images, *, table: str = "net") -> NetConfig:
    """The net of a table of a recipe with as many input and output channels as the images have, unless the recipe says
    otherwise."""
    known = nets.net_options(net.name)
    wanted = {"in_channels": images.in_channels, "out_channels": images.out_channels}
    spec = getattr(images, "spec", None)
    latent = spec is not None and spec.kind == "latent"
    if net.name in nets.NETS and latent != ("latent" in known):
        takes = ("pictures", "latent vectors")["latent" in known]
        raise ValueError(
            f"{table}.name = {net.name!r} takes {takes}, and these data have {'latent vectors' if latent else 'pictures'}: "
            f"data.name = 'latents' goes with {table}.name = 'sagan' or 'stylegan2'"
        )
    if latent:
        wanted = {"latent": spec.channels, "out_channels": images.out_channels}  # type: ignore[union-attr]
    for key, value in wanted.items():
        if net.options.get(key, value) != value:
            raise ValueError(
                f"{table}.{key} = {net.options[key]}, but the data have {value}; leave {table}.{key} out"
            )
    given = {key: value for key, value in wanted.items() if key in known}
    return NetConfig(**{**net.model_dump(), **given})
