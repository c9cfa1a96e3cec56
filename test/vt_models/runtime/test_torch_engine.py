# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from vt_models import BackendError, InputError
from vt_models.runtime.engine import Template

torch = pytest.importorskip("torch", reason="needs the training packages")

from vt_models.runtime.torch_engine import TorchEngine

TEMPLATE_BOX = np.array((0.25, 0.25, 0.5, 0.5), np.float32)


def test_engine_leaves_the_network_unchanged(small_model, crops) -> None:
    net, spec = small_model
    net.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    engine = TorchEngine(net, spec, "cpu")
    template, search = crops(spec)
    with pytest.raises(InputError, match="set_template"):
        engine.search(search)
    engine.set_template(Template(template[None], TEMPLATE_BOX))
    engine.search(search)
    assert net.training
    assert all(bool((value == before[key]).all()) for key, value in net.state_dict().items())


def test_engine_unavailable_device_is_a_backend_error(small_model) -> None:
    net, spec = small_model
    with pytest.raises(BackendError, match="TensorRT"):
        TorchEngine(net, spec, "tensorrt")
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="no CUDA GPU"):
            TorchEngine(net, spec, "cuda")
