"""The gradient of a training step as one function, by torch's compiler where that is asked for.

A step takes some forty small operations beside its products, each of which reads and writes all of a batch, or of the
weights. Compiled, what stands between two products is one pass. What a call draws is drawn before it, by the same
generator in the same order, so a compiled run has the random numbers of others. It rounds in its own way: it differs in
the last bits. Each form of the tensors is compiled by itself, from nothing but the form, so that a call gives the same
bits whatever came before: in a run that is repeated, and in one that is resumed.

Where nothing can be compiled, as without a C++ compiler on a CPU, all is computed as ever, and the log says so once.
"""

import logging
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from textwrap import shorten
from typing import Any, NamedTuple, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

LOGGER = logging.getLogger(__name__)

OPTIONS: dict[str, Any] = {
    "compile_threads": 1,  # else torch keeps a pool of processes
    "max_autotune": False,
    "size_asserts": False,  # each form has a function of its own
    "triton.cudagraphs": False,  # whole steps are captured instead, see `dbn.capture`
}
"""Of `torch._inductor.config`."""

DRAWN = {Tensor.uniform_, Tensor.normal_, Tensor.exponential_, Tensor.random_}
"""What fills a tensor with random numbers that depend on nothing but the generator."""
SUMS = {Tensor.add_, Tensor.add, torch.add}

Draw = Callable[[], tuple[Tensor, ...]]


class _Tape:
    """What a traced call draws: noted in a first trace; in a second the numbers are given."""

    def __init__(self) -> None:
        self.draws: list[Draw] = []
        self.examples: list[Tensor] = []
        self.given: Iterator[Tensor] | None = None

    def take(self, draw: Draw, forms: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if self.given is not None:
            return tuple(next(self.given) for _ in forms)
        self.draws.append(draw)
        self.examples += forms
        return tuple(forms)


_said: set[str] = set()
_tape: ContextVar[_Tape | None] = ContextVar("_tape", default=None)


def is_tracing() -> bool:
    """Whether a call is traced, whose tensors have neither values nor a place in memory."""
    return _tape.get() is not None


def drawn_before(draw: Draw, *forms: Tensor) -> tuple[Tensor, ...]:
    """Where a call is traced: `draw()`, which gives tensors of these forms, and which the call does before all else."""
    tape = _tape.get()
    return draw() if tape is None else tape.take(draw, forms)


class _Traced(TorchFunctionMode):
    """Notes what a trace draws."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in SUMS and "alpha" in kwargs:  # torch 2.13 leaves it out where a product is added to
            return func(args[0], args[1] * kwargs.pop("alpha"), *args[2:], **kwargs)
        tape = _tape.get()
        if func not in DRAWN or tape is None:
            return func(*args, **kwargs)
        place, others = args[0], args[1:]
        form: dict[str, Any] = {"size": place.shape, "dtype": place.dtype, "device": place.device}
        (numbers,) = tape.take(lambda: (func(torch.empty(**form), *others, **kwargs),), [torch.empty_like(place)])
        return place.copy_(numbers)


Place = tuple[int, str, str]
"""Of a tensor: the number of an object or a module's dictionary, the attribute that is a dictionary or "", the name."""


class _Kept:
    """Parameters and buffers of modules, and the tensors of other objects, in attributes and in dictionaries there."""

    def __init__(self, held: Iterable[object]) -> None:
        self.parts: list[dict[str, Any]] = []
        for each in held:
            if isinstance(each, nn.Module):
                self.parts += [kind for part in each.modules() for kind in (part._parameters, part._buffers) if kind]
            else:
                self.parts.append(vars(each))

    def holder(self, place: Place) -> dict[str, Any]:
        number, dictionary, _ = place
        found: dict[str, Any] = self.parts[number][dictionary] if dictionary else self.parts[number]
        return found

    def holders(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        for number, part in enumerate(self.parts):
            yield number, "", part
            yield from ((number, name, value) for name, value in part.items() if type(value) is dict)

    def tensors(self) -> dict[Place, Tensor]:
        return {
            (number, dictionary, name): value
            for number, dictionary, holder in self.holders()
            for name, value in holder.items()
            if isinstance(value, Tensor)
        }

    def replace(self, tensors: Iterable[tuple[Place, Tensor]]) -> None:
        for place, tensor in tensors:
            self.holder(place)[place[-1]] = tensor


class _Compiled(NamedTuple):
    call: Callable[..., Sequence[Any]]
    draws: list[Draw]
    written: list[Place]
    """Where the first of what it gives belongs."""
    learned: list[nn.Parameter]
    """Those whose gradients follow."""
    rest: TreeSpec
    """The form of the rest, which is the result."""


@final
class CompiledCalls:
    """Does calls that read and replace tensors which objects and modules keep, and write the gradients of parameters.

    >>> calls, total = CompiledCalls([], wanted=False), torch.zeros(())
    >>> calls("sum", total.add_, torch.ones(()))
    tensor(1.)
    """

    def __init__(self, held: Iterable[object], *, wanted: bool) -> None:
        """held: modules, and objects that keep no more than tensors, in attributes or in dictionaries there, and say
        so by `capturable`. Calls are as they are unless `wanted`."""
        held = list(held)
        self.wanted, self._kept = wanted, _Kept(held)
        self._made: dict[Hashable, _Compiled] = {}
        others = [each for each in held if not isinstance(each, nn.Module) and not getattr(each, "capturable", False)]
        if wanted and others:
            self.give_up(f"{' and '.join(type(each).__name__ for each in others)} may keep more than tensors")

    def give_up(self, why: str) -> None:
        """From now on do every call as it is; the log says why, but not the same twice."""
        self.wanted = False
        if why not in _said:
            _said.add(why)
            LOGGER.warning("steps are not compiled, and take as long as without --compile: %s", why)

    def __call__(self, key: Hashable, function: Callable[..., Any], *inputs: Tensor | None) -> Any:
        """`function(*inputs)`. Calls with one key do the same but for the tensors."""
        if not self.wanted:
            return function(*inputs)
        kept = self._kept.tensors()
        tensors = [*kept.values(), *(each for each in inputs if each is not None)]
        forms = [(each.shape, each.stride(), each.dtype, each.device) for each in tensors]
        form = key, *kept, *(each is None for each in inputs), *forms
        made = self._made.get(form) or self._compile(form, function, inputs, tensors)
        if made is None:
            return function(*inputs)
        numbers = [_single(number) for draw in made.draws for number in draw()]
        found = made.call(*tensors, *numbers)
        self._kept.replace(zip(made.written, found, strict=False))
        for parameter, value in zip(made.learned, found[len(made.written) :], strict=False):
            parameter.grad = value
        return tree_unflatten(found[len(made.written) + len(made.learned) :], made.rest)

    def _compile(
        self, form: Hashable, function: Callable[..., Any], inputs: Sequence[Tensor | None], tensors: list[Tensor]
    ) -> _Compiled | None:
        for is_last in (False, True):  # Ctrl-C, which training defers, ends a C++ compiler
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # torch's own, about its parts
                    self._made[form] = _Trace(self._kept, function, inputs).compiled(tensors)
                break
            except Exception as error:
                if is_last:
                    self.give_up(shorten(f"{type(error).__name__}: {error}", 160))
        return self._made.get(form)


def _single(number: Tensor) -> Tensor:
    """In float32 where it is int16, which inductor compares one by one on a CPU."""
    return number.to(torch.float32) if number.dtype == torch.int16 else number


class _Trace:
    """A call as a function of tensors alone: what is kept, the inputs, the random numbers."""

    def __init__(self, kept: _Kept, call: Callable[..., Any], inputs: Sequence[Tensor | None]) -> None:
        self.kept, self.call, self.inputs = kept, call, inputs
        self.tape = _Tape()
        self.written: list[Place] = []
        self.learned: list[nn.Parameter] = []
        self.rest: TreeSpec | None = None

    def compiled(self, tensors: list[Tensor]) -> _Compiled:
        """What does the call. RuntimeError and others where it cannot be made."""
        from torch.fx.experimental.proxy_tensor import make_fx

        tensors = [each.detach() for each in tensors]  # without the gradients of the last step
        make_fx(self, tracing_mode="fake")(*tensors)
        drawn = [torch.empty(each.shape, dtype=each.dtype, device=each.device) for each in self.tape.examples]
        tensors += [_single(each) for each in drawn]
        graph = make_fx(self, tracing_mode="fake")(*tensors)
        _check(graph)
        assert self.rest is not None
        return _Compiled(by_inductor(graph, tensors), self.tape.draws, self.written, self.learned, self.rest)

    def __call__(self, *tensors: Tensor) -> list[Any]:
        """What is written, then gradients, then the result of the call, on tensors in place of those that are kept."""
        before = [(holder, dict(holder)) for *_, holder in self.kept.holders()]
        kept, left = self.kept.tensors(), iter(tensors)
        placed = {place: next(left) for place in kept}
        inputs = [None if each is None else next(left) for each in self.inputs]
        self.tape.given = left if self.tape.draws else None
        token = _tape.set(self.tape)
        try:
            self.kept.replace(placed.items())
            with _Traced():
                result, self.rest = tree_flatten(self.call(*inputs))
            new = {place: each for place, each in self.kept.tensors().items() if each is not placed.get(place)}
        finally:
            _tape.reset(token)
            for holder, content in before:
                holder.clear()
                holder.update(content)
        learned = [(each, placed[place]) for place, each in kept.items() if isinstance(each, nn.Parameter)]
        learned = [(each, stand_in) for each, stand_in in learned if stand_in.grad is not None]
        self.written, self.learned = list(new), [each for each, _ in learned]
        return [*new.values(), *(stand_in.grad for _, stand_in in learned), *result]


def _check(graph: torch.fx.GraphModule) -> None:
    """NotImplementedError for what would be wrong in another call: a number drawn within, a tensor of then."""
    for node in graph.graph.nodes:
        given = [*node.args, *node.kwargs.values(), getattr(graph, str(node.target), None)]
        if node.op == "get_attr" or any(isinstance(each, torch.Generator) for each in given):
            users = ", ".join(str(user.target) for user in (node, *node.users) if user.op == "call_function")
            raise NotImplementedError(f"{users} takes random numbers that depend on values, or what nothing keeps")


def by_inductor(graph: torch.fx.GraphModule, tensors: list[Tensor]) -> Callable[..., Sequence[Any]]:
    """The graph compiled for such tensors."""
    # Not torch.compile, which takes 20 microseconds a call to find what it has compiled.
    import torch._inductor
    from torch._inductor import config

    # Where torch knows of it: nothing is chosen by the clock that bits depend on.
    options = OPTIONS | ({"deterministic": True} if hasattr(config, "deterministic") else {})
    compiled: Callable[..., Sequence[Any]] = torch._inductor.compile(graph, list(tensors), options=options)
    return compiled
