"""What a checkpoint can keep, and that it comes back as it was."""

import json

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from sngd.checkpoint import Share
from sngd.checkpoint.encoding import copied, decode, encode
from sngd.checkpoint.tensors import read_tensors, write_tensors

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text(), inner)
        | st.fixed_dictionaries({"tensor": inner})
    ),
)


@given(PLAIN)
def test_any_plain_value_survives(value):
    tensors = {}
    back = decode(json.loads(json.dumps(encode(value, tensors))), tensors)
    assert back == value
    assert repr(back) == repr(value)


def test_what_cannot_be_kept_is_named():
    with pytest.raises(TypeError, match=r"state\.optimizer\.1 is object"):
        encode({"optimizer": [1, object()]}, {})
    with pytest.raises(TypeError, match=r"state\.optimizer has the key \(1, 2\)"):
        encode({"optimizer": {(1, 2): 3}}, {})


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4), (2, 0, 3)])
def test_tensors_come_back_with_their_strides(tmp_path, dtype, shape):
    x = torch.ones(shape).cumsum(0).to(dtype) if shape else torch.tensor(3.0).to(dtype)
    given_ = {"x": x, "turned": x.T if x.dim() == 2 else x}
    index = json.loads(json.dumps(write_tensors(tmp_path, given_)))
    for name, back in read_tensors(tmp_path, index).items():
        assert torch.equal(back, given_[name])
        assert (back.dtype, back.stride()) == (dtype, given_[name].stride())


def test_an_expanded_tensor_is_kept_as_what_it_holds(tmp_path):
    tensors = {}
    plain = encode(torch.ones(1).expand(4), tensors)
    back = decode(plain, read_tensors(tmp_path, write_tensors(tmp_path, copied(tensors))))
    assert torch.equal(back, torch.ones(4))


def test_a_copy_is_written_not_what_training_has_made_of_it(tmp_path):
    x, tensors = torch.zeros(3), {}
    encode({"x": x}, tensors)
    taken = copied(tensors)
    x += 1
    assert torch.equal(read_tensors(tmp_path, write_tensors(tmp_path, taken))["state.x"], torch.zeros(3))


def test_parts_of_one_name_are_kept_apart():
    tensors = {}
    plain = encode({"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}}, tensors)
    assert decode(plain, tensors) == {"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}}


def test_of_a_rank_that_does_not_write_the_rest_only_shares_are_copied():
    share = Share(torch.ones(2), 1, 2)
    taken = copied({"x": torch.ones(1), "y": share}, whole=False)
    assert list(taken) == ["y"]
    assert torch.equal(taken["y"].own, share.own)
    assert taken["y"].own is not share.own
