"""Base class of adapters: what is trained of a net that has the weights of a base."""

from collections.abc import Iterable

from micro_transformer.nn.arch.base import Net


class Adapter:
    """Surgery on a built net: base weights are loaded before, its own after it.

    A head that the base does not have, as in classification, is trained with every adapter; the
    base's own head stays frozen with it, but for `none` and `head_only`.
    """

    needs_base = True  # False: is of use on a net with random weights too, as a control

    def adapt(self, net: Net, fresh: Iterable[str] = ()) -> None:
        """Of the net, only the adapter's parameters are trained, and `fresh`: names of those that
        the base did not give. New ones are drawn by torch's generator of the CPU."""
        net.requires_grad_(False)
        for name in fresh:
            net.get_parameter(name).requires_grad_(True)
        self.insert(net)

    def insert(self, net: Net) -> None:
        """The net, which is frozen, has the adapter's parameters. ValueError: they do not fit."""
        raise NotImplementedError

    def merge(self, net: Net) -> None:
        """What can be added to the base's weights is, so that it costs nothing to measure."""
