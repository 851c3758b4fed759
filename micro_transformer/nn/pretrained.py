"""Takes the weights of a pre-trained net over into a net with another head."""

from collections.abc import Collection

from torch import nn

from micro_transformer.wording import _

HEAD = "head"  # module of every net that turns hidden vectors into predictions


def take_weights(net: nn.Module, base: nn.Module, fresh: Collection[str] = ()) -> None:
    """The net has the base's weights; its modules named in `fresh` keep their own. ValueError, with
    nothing changed, for any other weight that only one of the two has, or of another shape."""
    own, given = (
        {key: x for key, x in each.state_dict().items() if key.partition(".")[0] not in fresh}
        for each in (net, base)
    )
    for key in sorted(own.keys() | given.keys()):
        wanted, found = (tuple(each[key].shape) if key in each else None for each in (own, given))
        if wanted != found:
            raise ValueError(
                _(
                    "base: {key} is {found} there and {wanted} in this net; use a base of the same "
                    "net",
                    key=key,
                    found=found or _("absent"),
                    wanted=wanted or _("absent"),
                )
            )
    net.load_state_dict({**net.state_dict(), **given})
