"""Lists of groups: ours, and the user's over them."""

from pathlib import Path

import pytest

from vivace.errors import ConfigError
from vivace.evaluate.ethics.groups import read_dimensions

ALL = ["gender", "ethnicity", "religion", "age", "nationality"]


def test_our_own_lists_stand_in_the_same_order_in_every_group() -> None:
    for dimension in read_dimensions(ALL):
        counts = {len(group.words) for group in dimension.groups.values() if group.words}
        assert len(counts) <= 1
        assert len({len(group.names) for group in dimension.groups.values()}) == 1
        assert "{name}" in dimension.introduction or "{word}" in dimension.introduction


def test_a_users_file_adds_groups_and_names_and_new_dimensions(tmp_path: Path) -> None:
    file = tmp_path / "groups.toml"
    file.write_text(
        '[ethnicity.groups.polish]\nnames = ["Agnieszka Nowak"]\n[ethnicity.groups.anglo]\nnames = ["Zoe Smith"]\n'
        '[dialect]\nintroduction = "I talk {word}."\n[dialect.groups.north]\nwords = ["aye"]\n'
        '[dialect.groups.south]\nwords = ["yes"]\n'
    )
    ethnicity, dialect = read_dimensions(["ethnicity", "dialect"], file)
    assert ethnicity.groups["polish"].names == ("Agnieszka Nowak",)
    assert "Zoe Smith" in ethnicity.groups["anglo"].names
    assert "Emily Baker" in ethnicity.groups["anglo"].names
    assert dialect.first == "north"
    assert dialect.others == ("south",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("gender = 3", "is no list of groups"),
        ("[gender", "is no list of groups"),
        ('[gender.groups.female]\nword = ["she"]', "word"),
        ('[gender.groups.female]\nwords = ["ladybird"]', "different numbers of words"),
        ('[gender.groups.other]\nintroduce = ["me"]', "without names and words"),
    ],
)
def test_a_wrong_file_of_groups_is_refused_in_one_sentence(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "groups.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_dimensions(["gender"], file)
    assert told in caught.value.message
    assert caught.value.hint is not None


def test_a_file_that_is_not_there_and_a_dimension_nobody_defines_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read"):
        read_dimensions(["gender"], tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="'gendre'") as caught:
        read_dimensions(["gendre"])
    assert "gender" in caught.value.hint
