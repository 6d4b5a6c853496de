"""A mesh of one device, which places nothing; of several, `on_four_devices.py`."""

from __future__ import annotations

import jax
import numpy as np

from glot_jax.mesh.device_mesh import ONE, Mesh
from glot_jax.mesh.processes import Processes


def test_a_mesh_of_one_leaves_arrays_where_they_are():
    array = jax.numpy.arange(4.0)
    assert not ONE.several
    assert ONE.everywhere(array) is array
    assert ONE.from_first(array) is array
    assert ONE.own(4) == slice(0, 4)
    assert ONE.jit_options == {}
    assert ONE.described(array).sharding is None
    assert not ONE.place_rows(array).committed
    assert not ONE.place_whole(array, axis=0).committed
    assert not ONE.place_everywhere(np.arange(3)).committed
    assert Mesh(jax.local_devices()[:1]).count == 1


def test_each_process_has_the_rows_behind_those_of_the_one_before():
    shares = []
    for number in range(3):
        mesh = Mesh(processes=Processes(number, 3))
        shares.append(np.arange(12)[mesh.own(12)])
    assert np.concatenate(shares).tolist() == list(range(12))
    assert {len(share) for share in shares} == {4}
