"""What an event says of itself."""

import pytest

from protocols.event import LIFE_SAFETY, Category, Event, Format, Qualifier


@pytest.mark.parametrize("category", Category)
@pytest.mark.parametrize("qualifier", Qualifier)
def test_a_life_may_hang_on_all_but_the_restore_of_a_life_safety_category(category: Category, qualifier: Qualifier) -> None:
    event = Event("1234", Format.SIA, "XX", qualifier, category)
    assert event.life_safety == (category in LIFE_SAFETY and qualifier is not Qualifier.RESTORE)


def test_the_life_safety_categories_are_these() -> None:
    assert " ".join(sorted(LIFE_SAFETY)) == "duress fire gas hold_up lone_worker medical panic"
