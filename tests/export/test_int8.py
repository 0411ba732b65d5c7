"""Networks in int8, and files that are opened again: what they compute, say and refuse."""

import dataclasses
import json
import warnings

import pytest
import timm
import torch
from exports import disturb, images, message, needs, tiny
from torch import nn

from sgnas_zoo.api.exported import ExportedModel, is_exported
from sgnas_zoo.errors import ArtifactError, ModelError, UntrainedWarning
from sgnas_zoo.export import FORMATS, export
from sgnas_zoo.export.int8 import sensitivities
from sgnas_zoo.models.deploy import deploy

CALIBRATION = images(24, 3, 32, 32, seed=3)


def layers(model):
    return [name for name, part in deploy(model).named_modules() if isinstance(part, nn.Conv2d | nn.Linear)]


def noise(file, model):
    """Mean square of what a file adds to a model's outputs, relative to theirs."""
    batch = images(6, 3, 32, 32, seed=9)
    with torch.no_grad():
        wanted = model.eval()(batch)
    return ((file(batch) - wanted).square().mean() / wanted.square().mean()).item()


@pytest.mark.parametrize("name", FORMATS)
def test_int8_is_near_float_and_kept_layers_are_nearer(name, tmp_path):
    needs(name, int8=True)
    model, suffix = tiny(), FORMATS[name].suffix
    plain = export(model, tmp_path / f"float{suffix}", name)
    done = export(model, tmp_path / f"int8{suffix}", name, calibration=CALIBRATION)
    kept = export(model, tmp_path / f"kept{suffix}", name, calibration=CALIBRATION, keep_float=len(layers(model)))
    assert (plain.details["precision"], done.details["precision"]) == ("float32", "int8")
    assert plain.agreement is None
    assert done.agreement > 0.8
    assert done.details["bytes"] == done.path.stat().st_size
    assert done.details["bytes"] < 0.9 * plain.details["bytes"]
    assert (done.kept, set(kept.kept)) == ({}, set(layers(model)))
    noises = [noise(ExportedModel(one.path), model) for one in (plain, kept, done)]
    assert noises[0] < 1e-9
    assert noises[1] < 0.7 * noises[2]  # what joins layers stays in int8
    assert 1e-6 < noises[2] < 0.05
    assert noise(ExportedModel(done.path), tiny(seed=1)) > 0.5


def test_onnx_keeps_the_layers_that_it_names(tmp_path):
    import onnx

    model = tiny()
    done = export(model, tmp_path / "net.onnx", calibration=CALIBRATION, keep_float=3)
    found = sensitivities(deploy(model), CALIBRATION)
    assert [*done.kept] == [*found][:3]
    assert [*found.values()] == sorted(found.values(), reverse=True)
    proto = onnx.load(done.path)
    stored = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    for layer in layers(model):
        kind = stored.get(f"{layer}.weight", stored.get(f"{layer}.weight_quantized"))
        assert kind == (onnx.TensorProto.FLOAT if layer in done.kept else onnx.TensorProto.INT8)
    assert not any(node.metadata_props for node in proto.graph.node)


def test_weights_have_seven_bits_as_eight_overflow_without_vnni(tmp_path):
    import onnx

    proto = onnx.load(export(tiny(), tmp_path / "net.onnx", calibration=CALIBRATION).path)
    weights = [t for t in proto.graph.initializer if t.name.endswith("weight_quantized")]
    largest = [abs(onnx.numpy_helper.to_array(tensor).astype(int)).max() for tensor in weights]
    assert len(weights) == len(layers(tiny()))
    assert 60 < max(largest) <= 64


def test_the_layer_that_rounds_worst_is_the_most_sensitive():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)).eval()
    with torch.no_grad():
        model[1].weight[:, 0, 0, 0] = 100 * model[1].weight.abs().max()  # all other weights fall into few steps
        model[1].weight[:, 0, 0, 0] *= torch.tensor([1.0, -1.0]).repeat(4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = sensitivities(model, images(8, 3, 12, 12))
    assert next(iter(found)) == "1"
    assert set(found) == {"0", "1", "2"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(part._forward_pre_hooks for part in model.modules())


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        (torch.zeros(0, 3, 32, 32), "do not fit a network that sees (3, 32, 32)"),
        (torch.zeros(4, 3, 16, 16), "do not fit"),
        (torch.zeros(4, 1, 32, 32), "do not fit"),
        (torch.zeros(3, 32, 32), "do not fit"),
        (torch.zeros(4, 3, 32, 32, dtype=torch.uint8), "have to be finite floats"),
        (torch.full((4, 3, 32, 32), float("nan")), "have to be finite floats"),
    ],
)
def test_images_that_cannot_calibrate(calibration, said, tmp_path):
    with pytest.raises(ModelError) as error:
        export(tiny(), tmp_path / "net.onnx", calibration=calibration)
    assert said in message(error)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("count", [-1, 1000])
def test_more_float_layers_than_there_are(count, tmp_path):
    with pytest.raises(ModelError, match="choose from 0 to"):
        export(tiny(), tmp_path / "net.onnx", calibration=CALIBRATION, keep_float=count)


def test_networks_of_few_bits_have_no_int8(tmp_path):
    model = timm.create_model("resnet18_bits")
    with pytest.raises(ModelError, match="rounds its weights to few bits itself; export it without int8"):
        export(model, tmp_path / "net.onnx", calibration=images(2, 3, 224, 224))


def test_missing_quantiser_is_named(tmp_path, monkeypatch):
    lacking = dataclasses.replace(FORMATS["pt2"], name="lacking", int8_packages=("no_such_package",))
    with FORMATS.temporarily("lacking", lacking):
        with pytest.raises(ModelError) as error:
            export(tiny(), tmp_path / "net.pt2", "lacking", calibration=CALIBRATION)
        assert message(error).endswith("needs no_such_package: pip install 'sgnas-zoo[pt2-int8]'")
        assert export(tiny(), tmp_path / "net.pt2", "lacking").error < 1e-5


# --- files that are opened again


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_says_how_images_are_prepared(name, tmp_path):
    needs(name)
    model = tiny(num_classes=3)
    look = {"mean": (0.1, 0.2, 0.3), "crop_pct": 0.9, "label_names": ["a", "b", "c"]}
    model.pretrained_cfg = {**model.pretrained_cfg, **look}
    file = ExportedModel(export(model, tmp_path / f"net{FORMATS[name].suffix}", name).path)
    assert (file.num_classes, file.precision, file.format.name) == (3, "float32", name)
    config = timm.data.resolve_data_config({}, model=file)
    assert (config["input_size"], config["mean"], config["crop_pct"]) == ((3, 32, 32), (0.1, 0.2, 0.3), 0.9)
    assert file.pretrained_cfg["label_names"] == ["a", "b", "c"]
    batch = images(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(file(batch), model.eval()(batch), rtol=1e-3, atol=1e-4)


def test_features_are_no_classes(tmp_path):
    file = ExportedModel(export(tiny(features_only=True), tmp_path / "net.pt2", "pt2").path)
    with pytest.raises(ModelError, match="does not classify"):
        file(images(1, 3, 32, 32))


@pytest.mark.parametrize("name", FORMATS)
def test_files_that_are_not_ours(name, tmp_path):
    needs(name)
    good = export(tiny(), tmp_path / f"good{FORMATS[name].suffix}", name).path
    content = good.read_bytes()
    for number, broken in enumerate([b"", b"no file of this kind", content[: len(content) // 3]]):
        bad = tmp_path / f"bad{number}{FORMATS[name].suffix}"
        bad.write_bytes(broken)
        with pytest.raises(ArtifactError) as error:
            ExportedModel(bad)
        assert "export it" in message(error)
    with pytest.raises(ArtifactError, match="does not exist; name a file that"):
        ExportedModel(tmp_path / f"none{FORMATS[name].suffix}")


@pytest.mark.parametrize(
    "look",
    [
        None,
        "no JSON",
        json.dumps({"num_classes": 3}),
        json.dumps({"input_size": [3, 32], "num_classes": 3}),
        json.dumps({"input_size": [3, 32, 10**9], "num_classes": 3}),
        json.dumps({"input_size": [3, 32, 32], "num_classes": -1}),
        json.dumps({"input_size": [3, 32, 32], "num_classes": 3, "mean": "black"}),
        json.dumps({"input_size": [3, 32, 32], "num_classes": 3, "crop_pct": 1e9}),
    ],
)
def test_a_file_of_somebody_else_is_refused(look, tmp_path):
    import onnx

    path = export(tiny(), tmp_path / "net.onnx").path
    proto = onnx.load(path)
    told = {entry.key: entry.value for entry in proto.metadata_props} | {"pretrained_cfg": look}
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {key: value for key, value in told.items() if value is not None})
    onnx.save(proto, path)
    with pytest.raises(ArtifactError, match="does not say which images it takes; export it with"):
        ExportedModel(path)


def test_untrained_weights_are_told(tmp_path):
    from sgnas_zoo.models.origin import caveat, mark_untrained

    model = tiny()
    disturb(model)
    known = ExportedModel(export(model, tmp_path / "known.pt2", "pt2").path)
    mark_untrained(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedWarning)
        untrained = ExportedModel(export(model, tmp_path / "untrained.pt2", "pt2").path)
    assert caveat("known", known) is None
    assert "untrained" in caveat("untrained", untrained)


@pytest.mark.parametrize(("name", "wanted"), [("a.onnx", True), ("a/b.pte", True), ("a.b", False), ("resnet18", False)])
def test_names_that_read_as_files(name, wanted):
    assert is_exported(name) is wanted
