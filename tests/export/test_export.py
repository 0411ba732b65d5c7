import dataclasses
import errno
import importlib.util
import io
import itertools
import os
import resource
import sys
from pathlib import Path

import pytest
import timm
import torch
import warm
from exports import disturb, images, message, needs, tiny
from torch import nn

import sgnas_zoo
from sgnas_zoo.errors import ArtifactError, ModelError, UnknownNameError
from sgnas_zoo.export import FORMATS, export
from sgnas_zoo.export.checks import flat
from sgnas_zoo.export.formats import trace
from sgnas_zoo.models.deploy import deploy


class Small(nn.Module):
    """The least that the formats take; its outputs depend on the input as strongly as they can."""

    def __init__(self, classes=5):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, classes)
        self.pretrained_cfg = {"input_size": (3, 8, 8)}

    def forward(self, images):
        return self.head(self.conv(images).mean((2, 3)))


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Small()


def run_onnx(path, batch):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return names, [torch.from_numpy(array) for array in session.run(names, {"input": batch.numpy()})]


def run_again(name, path, batch):
    """Run a file with the format's library alone: nothing of this one's loaders."""
    if name == "onnx":
        return run_onnx(path, batch)[1]
    if name == "pt2":
        return flat(torch.export.load(path).module()(batch))
    if name == "litert":
        from ai_edge_litert.interpreter import Interpreter

        runner = Interpreter(str(path)).get_signature_runner()
        return [torch.from_numpy(array) for array in runner(args_0=batch.numpy()).values()]
    from executorch.runtime import Runtime

    return Runtime.get().load_program(path).load_method("forward").execute([batch])


def largest_error(outputs, expected):
    assert [output.shape for output in outputs] == [output.shape for output in expected]
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(outputs, expected, strict=True))


# --- what every format promises


def test_there_are_formats_to_check():
    assert {"onnx", "pt2", "executorch", "litert"} <= set(FORMATS)


CASES = {
    "classifier": ({}, ["logits"]),
    "features": ({"features_only": True}, ["features_0", "features_1", "features_2"]),
    "one_level": ({"features_only": True, "out_indices": (2,)}, ["features_0"]),
}


def formats_and_cases():
    """Each case in each format; that of one level is fast in the fastest format."""
    for name, case in itertools.product(FORMATS, CASES):
        fast = case != "one_level" or name == "pt2"
        yield pytest.param(name, case, marks=() if fast else pytest.mark.slow)


@pytest.mark.parametrize(("name", "case"), [*formats_and_cases()])
def test_file_gives_the_outputs_of_the_model(name, case, tmp_path, capfd):
    needs(name)
    kwargs, names = CASES[case]
    model, target = tiny(**kwargs), tmp_path / f"net{FORMATS[name].suffix}"
    done = export(model, target, name)
    out, err = capfd.readouterr()
    assert out == ""
    assert all(line.startswith("[cpuinfo_utils.cpp") for line in err.splitlines())
    assert err == "" or name == "executorch"
    assert (done.path, done.format) == (target, name)
    assert 0 <= done.error < 1e-5
    assert done.details["outputs"] == names
    assert done.details["input_size"] == [3, 32, 32]
    assert done.details["batch"] == ("dynamic" if FORMATS[name].dynamic else 1)
    assert list(tmp_path.iterdir()) == [target]
    assert target.stat().st_mode & 0o777 == 0o644
    batch = images(5 if FORMATS[name].dynamic else 1, 3, 32, 32)
    with torch.no_grad():
        expected, other = flat(model.eval()(batch)), flat(tiny(seed=1, **kwargs).eval()(batch))
    outputs = run_again(name, target, batch)
    assert largest_error(outputs, expected) < 1e-5
    assert largest_error(outputs, other) > 1e-2


@pytest.mark.parametrize("name", FORMATS)
def test_file_says_nothing_of_this_machine(name, tmp_path):
    needs(name)
    content = export(tiny(), tmp_path / "net", name).path.read_bytes()
    for path in (Path(timm.__file__).parent, Path(torch.__file__).parent, Path(sgnas_zoo.__file__).parent, tmp_path):
        assert str(path).encode() not in content


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].packages])
def test_missing_library_is_named(name, small, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    gone = FORMATS[name].packages[-1]
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None if package == gone else find(package))
    for package in FORMATS[name].packages[:-1]:
        monkeypatch.setitem(sys.modules, package, None)  # nothing is imported before the refusal
    with pytest.raises(ModelError) as error:
        export(small, tmp_path / "net", name)
    assert message(error).endswith(f"pip install 'sgnas-zoo[{FORMATS[name].extra}]'")
    assert gone in message(error)
    assert not any(tmp_path.iterdir())


def test_a_format_is_one_registration(small, tmp_path):
    saved = dataclasses.replace(FORMATS["pt2"], name="archive", suffix=".archive")
    with FORMATS.temporarily("archive", saved):
        assert export(small, tmp_path / "net.archive", "archive").format == "archive"
    with pytest.raises(UnknownNameError):
        export(small, tmp_path / "again.archive", "archive")


# --- the formats


def test_onnx_is_one_file_with_names_and_opset(tmp_path):
    import onnx

    done = export(tiny(features_only=True), tmp_path / "net.onnx")
    proto = onnx.load(done.path, load_external_data=False)
    onnx.checker.check_model(proto, full_check=True)
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", done.details["opset"])]
    assert [value.name for value in proto.graph.input] == ["input"]
    assert [value.name for value in proto.graph.output] == done.details["outputs"]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not any(tensor.external_data for tensor in proto.graph.initializer)
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}


def test_executorch_hands_everything_to_its_backend(tmp_path):
    needs("executorch")
    done = export(tiny(), tmp_path / "net.pte", "executorch")
    assert done.details["backend"] == "XNNPACK"
    assert b"XnnpackBackend" in done.path.read_bytes()


class Branching(nn.Module):
    """Cannot be traced."""

    def forward(self, batch):
        return batch if batch.sum() > 0 else -batch


class Svd(nn.Module):
    """Can be traced, and has no ONNX."""

    def forward(self, batch):
        return torch.linalg.svdvals(batch)


@pytest.mark.parametrize(
    ("kind", "said"), [(Branching, "cannot be traced for its deploy form"), (Svd, "aten._linalg_svd")]
)
def test_what_the_exporter_cannot_is_said(kind, said, tmp_path):
    with pytest.raises(ModelError) as error:
        export(kind(), tmp_path / "odd.onnx", input_size=(3, 4, 4))
    assert message(error).startswith(f"{kind.__name__} cannot be ")
    assert said in message(error)
    assert not any(tmp_path.iterdir())


def test_libraries_are_imported_when_used():
    packages = {package for name in FORMATS for package in FORMATS[name].packages}
    assert len(packages) == 6
    code = f"import sys, sgnas_zoo.export; print(sorted({packages!r} & {{*sys.modules}}))"
    assert warm.run("-c", code).stdout == "[]\n"


# --- what goes in


def test_model_stays_as_it_is(tmp_path):
    model = tiny(drop_rate=0.5).train().to(memory_format=torch.channels_last)
    model.blocks[0].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    strides = {name: tensor.stride() for name, tensor in model.state_dict().items()}
    modes = [(module.training, getattr(module, "inplace", None)) for module in model.modules()]
    leaves = [parameter.requires_grad for parameter in model.parameters()]
    state = torch.get_rng_state()
    done = export(model, tmp_path / "net.pt2", "pt2")
    assert done.error < 1e-5
    assert torch.equal(torch.get_rng_state(), state)
    assert [(module.training, getattr(module, "inplace", None)) for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == leaves
    assert any(inplace for _, inplace in modes)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert tensor.stride() == strides[name]


@pytest.mark.parametrize(
    ("kwargs", "stated", "size", "shape"),
    [
        ({"in_chans": 1, "num_classes": 0}, None, (1, 32, 32), (1, 256)),
        ({"num_classes": 3}, (3, 40, 24), (3, 40, 24), (1, 3)),
        ({"in_chans": 2, "features_only": True, "out_indices": (1,)}, [2, 16, 16], (2, 16, 16), None),
    ],
)
def test_input_size(kwargs, stated, size, shape, tmp_path):
    model = tiny(**kwargs)
    done = export(model, tmp_path / "net.pt2", "pt2", input_size=stated)
    assert done.details["input_size"] == list(size)
    (output,) = run_again("pt2", done.path, images(1, *size))
    assert output.shape == (shape or flat(model.eval()(images(1, *size)))[0].shape)


@pytest.mark.parametrize("size", [(3, 32), (3, 32, 32, 32), (3, 0, 32), (3, 32.0, 32), (True, 32, 32)])
def test_input_size_that_is_none(size, small, tmp_path):
    with pytest.raises(ModelError, match="is not an input size; pass channels"):
        export(small, tmp_path / "net.pt2", "pt2", input_size=size)


def test_size_of_nothing_is_asked_for(small, tmp_path):
    del small.pretrained_cfg
    with pytest.raises(ModelError, match="names no input size; pass input_size="):
        export(small, tmp_path / "net.pt2", "pt2")
    assert export(small, tmp_path / "net.pt2", "pt2", input_size=(3, 8, 8)).error < 1e-5


def broken(change):
    model = Small()
    change(model)
    return model


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (broken(lambda model: model.to(torch.bfloat16)), "in bfloat16, and float32 is exported; pass model.float()"),
        (broken(lambda model: model.to("meta")), "on the meta device"),
        (broken(lambda model: model.head.weight.data.fill_(float("nan"))), "outputs are not finite"),
        (broken(lambda model: model.pretrained_cfg.update(input_size=(4, 8, 8))), "cannot run on inputs of (4, 8, 8)"),
    ],
)
def test_model_that_cannot_be_exported(model, said, tmp_path):
    with pytest.raises(ModelError) as error:
        export(model, tmp_path / "net.onnx")
    assert said in message(error)
    assert not any(tmp_path.iterdir())


# --- controls: files that are not the model's


def pt2(model, batch, dynamic=True):
    buffer = io.BytesIO()
    torch.export.save(trace(model.eval(), batch, dynamic), buffer)
    return buffer.getvalue()


class Blind(Small):
    def forward(self, images):
        return super().forward(images * 0)


class Twice(Small):
    def forward(self, images):
        return [super().forward(images)] * 2


class Nan(Small):
    def forward(self, images):
        return super().forward(images) / 0 * 0


def like(kind, small, **kwargs):
    model = kind(**kwargs)
    if not kwargs:
        model.load_state_dict(small.state_dict())
    return model


WRONG = {
    "other weights": lambda small: pt2(Small(), images(2, 3, 8, 8)),
    "one weight": lambda small: pt2(nudged(small), images(2, 3, 8, 8)),
    "other classes": lambda small: pt2(like(Small, small, classes=6), images(2, 3, 8, 8)),
    "blind": lambda small: pt2(like(Blind, small), images(2, 3, 8, 8)),
    "twice": lambda small: pt2(like(Twice, small), images(2, 3, 8, 8)),
    "nan": lambda small: pt2(like(Nan, small), images(2, 3, 8, 8)),
    "fixed batch": lambda small: pt2(small, images(1, 3, 8, 8), dynamic=False),
    "cut short": lambda small: pt2(small, images(2, 3, 8, 8))[:-500],
    "nothing": lambda small: b"",
}


def nudged(small):
    model = like(Small, small)
    with torch.no_grad():
        model.head.weight[0, 0] += 1e-2
    return model


def dumping(content):
    return dataclasses.replace(FORMATS["pt2"], name="fake", suffix=".fake", dump=content)


def test_control_right_content_passes(small, tmp_path):
    fake = dataclasses.replace(dumping(lambda *_: pt2(small, images(2, 3, 8, 8))), suffix=".pt2")
    with FORMATS.temporarily("fake", fake):
        assert export(small, tmp_path / "net", "fake").error < 1e-5


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_file_is_refused_and_not_kept(wrong, force, small, tmp_path):
    target = tmp_path / "net.fake"
    if force:
        target.write_text("before")
    fake = dumping(lambda *_: WRONG[wrong](small))
    with FORMATS.temporarily("fake", fake), pytest.raises(ModelError) as error:
        export(small, target, "fake", force=force)
    runs = wrong not in ("fixed batch", "cut short", "nothing")
    assert message(error).startswith("The exported fake file is off by " if runs else "The exported fake file does not")
    assert list(tmp_path.iterdir()) == ([target] if force else [])
    assert not force or target.read_text() == "before"


def test_onnx_of_another_model_is_refused(tmp_path, monkeypatch):
    other = torch.onnx.export(
        deploy(tiny(seed=1)), (images(2, 3, 32, 32),), dynamo=True, verbose=False, input_names=["input"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )  # fmt: skip
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **kwargs: other)
    with pytest.raises(ModelError, match="The exported onnx file is off by"):
        export(tiny(), tmp_path / "net.onnx")
    assert not any(tmp_path.iterdir())
    assert export(tiny(seed=1), tmp_path / "net.onnx").error < 1e-5


# --- where it goes


@pytest.mark.parametrize("place", ["dump", "load"])
def test_interruption_leaves_nothing(place, small, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    with FORMATS.temporarily("fake", dataclasses.replace(FORMATS["pt2"], **{place: interrupt})):
        with pytest.raises(KeyboardInterrupt):
            export(small, tmp_path / "net.pt2", "fake")
        assert not any(tmp_path.iterdir())


def test_ctrl_c_leaves_nothing(tmp_path):
    code = """
import os, signal, sys, timm, torch
from sgnas_zoo.export import export

def interrupted(*_, **__):
    print(len(os.listdir(sys.argv[1])), flush=True)
    os.kill(os.getpid(), signal.SIGINT)

torch.onnx.export = interrupted
arch = "-".join(["3"] * 8)
export(timm.create_model("sgnas", space="sgnas_micro", arch=arch), sys.argv[1] + "/net")
"""
    done = warm.run("-c", code, tmp_path)
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert done.stdout == "1\n"  # it was begun
    assert not any(tmp_path.iterdir())


def test_existing_file_is_replaced_with_force_only(small, tmp_path):
    target = tmp_path / "net.pt2"
    target.write_text("before")
    with pytest.raises(ArtifactError, match="exists; choose another name or add --force"):
        export(small, target, "pt2")
    assert target.read_text() == "before"
    export(small, target, "pt2", force=True)
    assert len(run_again("pt2", target, images(2, 3, 8, 8))) == 1
    assert list(tmp_path.iterdir()) == [target]


def test_file_that_appears_meanwhile_is_kept(small, tmp_path):
    target = tmp_path / "net.pt2"

    def dump(program, metadata, int8):
        target.write_text("mine")
        return FORMATS["pt2"].dump(program, metadata, int8)

    fake = dataclasses.replace(FORMATS["pt2"], dump=dump)
    with FORMATS.temporarily("fake", fake), pytest.raises(ArtifactError, match="exists; choose another name"):
        export(small, target, "fake")
    assert target.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("folder", "is a folder; name a file"),
        ("dangling", "is a link that leads nowhere"),
        ("missing/net", "There is no folder"),
        ("file/net", "There is no folder"),
        ("n" * 300, "Cannot write"),
        ("/proc/net-of-nobody", "Cannot write"),
        ("net.onnx", "net.onnx reads as onnx; name a .pt2 file or choose the format onnx"),
    ],
)
def test_place_that_cannot_be_written(name, said, small, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ArtifactError) as error:
        export(small, tmp_path / name, "pt2")
    assert said in message(error)
    assert sorted(tmp_path.rglob("*")) == before


def test_folder_without_permission(small, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere; /proc stands in for this above")
    tmp_path.chmod(0o555)
    with pytest.raises(ArtifactError, match=os.strerror(errno.EACCES)):
        export(small, tmp_path / "net.pt2", "pt2")


def test_full_disk_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # its error stands in for that of a full disk
    try:
        with pytest.raises(ArtifactError) as error:
            export(tiny(), tmp_path / "net.pt2", "pt2")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.strerror(errno.EFBIG) in message(error)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "near"), [("onx", "onnx"), ("executorc", "executorch"), ("pte", "pt2")])
def test_unknown_format(name, near, small, tmp_path):
    with pytest.raises(UnknownNameError, match=f"Unknown export format '{name}': did you mean .*{near}"):
        export(small, tmp_path / "net", name)


# --- slow: whole networks, and every way of timm to give features


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("network", ["sgnas_a", "greedynas_a", "mobilenetv3_large_100", "resnet18"])
def test_whole_networks(network, name, tmp_path):
    needs(name)
    torch.manual_seed(0)
    model = timm.create_model(network)
    disturb(model)
    assert export(model, tmp_path / "net", name).error < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("feature_cls", ["list", "dict", "fx", "hook", "getter"])
def test_every_feature_class(feature_cls, name, tmp_path):
    needs(name)
    model = tiny(features_only=True, feature_cls=feature_cls)
    done = export(model, tmp_path / "net", name)
    assert done.error < 1e-5
    assert len(done.details["outputs"]) == 3
