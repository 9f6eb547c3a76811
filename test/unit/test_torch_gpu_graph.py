"""The graph that a GPU is given computes the same; looked at on the processor, where torch runs it as well."""

from __future__ import annotations

from typing import Any

import pytest

from trt_perception.backends.torch_gpu_graph import Convolutions, GpuModule, suit_gpu

torch: Any = pytest.importorskip("torch", reason="torch is not installed")
nn: Any = torch.nn

TENSOR_CORES, NO_TENSOR_CORES = Convolutions(True, True, True), Convolutions(False, False, False)


class Residual(nn.Module):
    """What a detector's backbone is made of: normalisation, an activation in place, a residual, a join."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.each = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.larger = nn.ConvTranspose2d(8, 6, 2, stride=2)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        value = nn.functional.silu(self.norm(self.first(pictures)), inplace=True)
        value = value + nn.functional.silu(self.each(self.second(value)))
        larger = self.larger(value)
        return torch.cat((larger.flatten(2), value.repeat(1, 1, 2, 2)[:, 0:6].flatten(2)), dim=2)


class Choice(nn.Module):
    """Branches by what is in the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.one(pictures) if float(pictures.mean()) > 0 else self.other(pictures)


class Rows(nn.Module):
    """No pictures: convolutions along one axis, and a weight that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.along, self.scale = nn.Conv1d(3, 4, 3), nn.Parameter(torch.rand(4, 3, 1, 1))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        scaled = nn.functional.conv2d(pictures, self.scale * pictures.mean())
        return self.along(pictures[:, :, 0]).sum() + scaled


class Strides(nn.Module):
    """Looks at memory itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        value = self.conv(pictures)
        return torch.as_strided(value, (1, 4, 5), (1, 20, 1))


class Joined(nn.Module):
    """Joins axes without a copy, which channels that lie side by side do not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.conv(pictures).view(pictures.shape[0], -1)


def frozen(module: Any) -> Any:
    torch.manual_seed(1)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return torch.jit.freeze(torch.jit.script(module.eval()))


def convolutions(module: Any) -> list[Any]:
    found = [node for kind in ("aten::conv2d", "aten::conv_transpose2d") for node in module.graph.findAllNodes(kind)]
    assert found
    return found


@pytest.mark.parametrize("channels_last", [True, False], ids=["channels last", "channels first"])
@pytest.mark.parametrize("network", [Residual, Choice, Rows, Strides])
def test_the_results_stay(network: Any, channels_last: bool) -> None:
    module = network()
    plain, suited = frozen(module), frozen(module)
    changed = suit_gpu(torch, suited, TENSOR_CORES if channels_last else NO_TENSOR_CORES)
    assert changed is (channels_last and network in (Residual, Choice))
    for seed, count in enumerate((1, 1, 1, 2, 3)):
        generator = torch.Generator().manual_seed(seed)
        pictures = torch.randn((count, 3, 12, 16), generator=generator)
        with torch.inference_mode():
            torch.testing.assert_close(suited(pictures), plain(pictures), rtol=1e-5, atol=1e-5)


def test_a_bias_becomes_an_addition_and_weights_lie_channel_by_channel() -> None:
    module = frozen(Residual())
    suit_gpu(torch, module, TENSOR_CORES)
    for node in convolutions(module):
        _, weight, bias, *_ = node.inputs()
        assert bias.toIValue() is None
        assert weight.toIValue().is_contiguous(memory_format=torch.channels_last)
        (addition,) = (use.user for use in node.output().uses())
        assert addition.kind() == "aten::add"
    with torch.inference_mode():
        assert module(torch.zeros(1, 3, 8, 8)).shape == (1, 6, 128)


def test_where_a_network_reads_memory_itself_its_layout_stays() -> None:
    module = frozen(Strides())
    suit_gpu(torch, module, TENSOR_CORES)
    (node,) = convolutions(module)
    assert list(node.inputs())[1].toIValue().stride() == (3, 1, 1, 1)


def test_a_traced_network_gets_the_switches_of_now() -> None:
    """Tracing writes those of torch at that time into the graph."""
    example = torch.zeros(1, 3, 8, 8)
    traced = torch.jit.freeze(torch.jit.trace(Residual().eval(), example))
    for wanted in (TENSOR_CORES, NO_TENSOR_CORES):
        suit_gpu(torch, traced, wanted)
        for node in traced.graph.findAllNodes("aten::_convolution"):
            *_, benchmark, deterministic, enabled, tf32 = (value.toIValue() for value in node.inputs())
            assert (benchmark, deterministic, enabled, tf32) == (wanted.benchmark, False, True, wanted.tf32)
    with torch.inference_mode():
        assert traced(example).shape == (1, 6, 128)


@pytest.fixture
def never_capturing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch without CUDA cannot be asked."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)


@pytest.mark.usefixtures("never_capturing")
def test_what_needs_its_own_layout_has_it_and_says_so() -> None:
    told: list[str] = []
    module = GpuModule(torch, lambda: frozen(Joined()), TENSOR_CORES, told.append)
    assert module.channels_last and not told
    pictures = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = frozen(Joined())(pictures.contiguous())
        for _ in range(3):
            torch.testing.assert_close(module(pictures), expected)
    assert not module.channels_last
    (note,) = told
    assert "needs its own memory layout (RuntimeError: view size is not compatible" in note


@pytest.mark.usefixtures("never_capturing")
def test_what_fails_in_any_layout_says_nothing_against_this_one() -> None:
    """As two pictures do in a network that was traced for one."""
    told: list[str] = []
    module = GpuModule(torch, lambda: frozen(Residual()), TENSOR_CORES, told.append)
    with torch.inference_mode():
        with pytest.raises(RuntimeError, match="channels"):
            module(torch.zeros(1, 5, 8, 8))
        assert module(torch.zeros(1, 3, 8, 8)).shape == (1, 6, 128)
    assert module.channels_last and not told


def test_a_torch_whose_graphs_cannot_be_changed_runs_them_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch._C, "_jit_pass_lint")
    told: list[str] = []
    module = GpuModule(torch, lambda: frozen(Residual()), TENSOR_CORES, told.append)
    assert not module.channels_last and "cannot change the network" in told[0]
    pictures = torch.randn(1, 3, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(module(pictures), frozen(Residual())(pictures))
