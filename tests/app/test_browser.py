"""The page in a real browser: look, choose, by mouse and by keyboard, in the dark and as narrow as a phone."""

import pytest

from tests.app.conftest import opened, until, video_id

pytestmark = pytest.mark.full

TIME = "document.querySelector('video').currentTime"


@pytest.fixture(scope="module")
def scored(served):
    """The id of a video that is scored."""
    id = video_id(served, "a.mp4")
    served.json("score", {"videos": [id]})
    served.finish()
    return id


def visit(page, served, id):
    page.goto(f"{served.address}/videos/{id}")
    page.wait_for_selector("#strip li")
    until(page, "document.querySelector('video').readyState >= 1")


def test_a_video_plays_and_the_curve_seeks(browser, served, scored):
    with opened(browser, served) as page:
        assert "token" not in page.url
        assert page.inner_text("#count") == f"{len(served.library.videos())} of {len(served.library.videos())} videos"
        page.fill("#search", "A.MP4")
        until(page, "document.querySelectorAll('.card').length === 1")
        page.click(".card a")
        page.wait_for_selector("#strip li")
        until(page, "document.querySelector('video').readyState >= 1")
        box = page.locator("#curve").bounding_box()
        page.mouse.click(box["x"] + 34 + (box["width"] - 42) / 2, box["y"] + 40)
        until(page, f"Math.abs({TIME} - 4) < 0.1")
        page.evaluate("document.querySelector('video').play()")
        until(page, f"{TIME} > 4.2")
        page.evaluate("document.querySelector('video').pause()")
        assert float(page.get_attribute("#curve", "aria-valuenow")) > 4
        page.locator("#curve").focus()
        page.keyboard.press("Home")
        until(page, f"{TIME} < 0.01")
        page.keyboard.press("ArrowRight")
        until(page, f"Math.abs({TIME} - 1) < 0.01")


def test_a_choice_follows_its_controls_is_changed_by_hand_and_undone(browser, served, scored):
    with opened(browser, served) as page:
        visit(page, served, scored)

        def shown():
            return [float(item.get_attribute("data-seconds")) for item in page.locator("#strip li").all()]

        def wait_for(count):
            until(page, f"document.querySelectorAll('#strip li').length === {count}")

        page.select_option("[name=method]", "uniform")
        page.fill("[name=k]", "5")
        wait_for(5)
        before = shown()
        page.get_by_role("button", name="Drop: ").nth(1).click()
        wait_for(4)
        assert shown() == [before[0], *before[2:]]
        page.get_by_role("button", name="Move one frame on: ").nth(0).click()
        until(page, "document.querySelector('#chosen').textContent === '4 keyframes, changed by hand'")
        until(page, f"document.querySelector('#strip li').dataset.seconds !== '{before[0]:g}'")
        assert before[0] < shown()[0] <= before[0] + 0.6
        assert f"selection.seconds=[{shown()[0]}" in page.text_content("#command")
        page.keyboard.press("Control+z")
        page.keyboard.press("Control+z")
        wait_for(5)
        assert shown() == before
        page.click("#add")
        wait_for(6)
        assert page.evaluate("[...document.querySelectorAll('#strip img')].length") == 6
        until(page, "[...document.querySelectorAll('#strip img')].every((one) => one.naturalHeight > 0)")


def test_a_choice_does_not_wait_for_stills(browser, served, scored):
    held, released = [], []
    with opened(browser, served) as page:
        page.goto(f"{served.address}/reports")  # it shows no stills
        page.route("**/still*", lambda route: route.continue_() if released else held.append(route))
        visit(page, served, scored)
        page.select_option("[name=method]", "uniform")
        for count in (8, 6):
            page.fill("[name=k]", str(count))
            until(page, f"document.querySelectorAll('#strip li').length === {count}")
        assert len(held) == 2  # of the browser's six connections
        released.append(True)
        for route in held:
            route.continue_()
        until(page, "[...document.querySelectorAll('#strip img')].every((one) => one.naturalHeight > 0)")


def test_the_extracted_keyframes_are_there_before_any_choice_is_made(browser, served, scored):
    """What a first choice needs of a long video takes seconds."""
    held, released = [], []
    with opened(browser, served) as page:
        page.route("**/choice", lambda route: route.continue_() if released else held.append(route))
        visit(page, served, scored)
        shown = [float(item.get_attribute("data-seconds")) for item in page.locator("#strip li").all()]
        assert held and not page.text_content("#command")
        released.append(True)
        for route in held:
            route.continue_()
        until(page, "performance.getEntriesByName('choice').length >= 1")
        assert shown == [float(item.get_attribute("data-seconds")) for item in page.locator("#strip li").all()]


def test_what_a_browser_does_not_play_gets_a_preview_on_the_same_clock(browser, served):
    id = video_id(served, "c ")
    with opened(browser, served) as page:
        assert page.inner_text(f'a[href="/videos/{id}"]') == "c <b>bold.avi"
        page.goto(f"{served.address}/videos/{id}")
        until(page, "document.querySelector('video').readyState >= 1")
        assert page.inner_text("h1") == "c <b>bold.avi"
        assert abs(page.evaluate("document.querySelector('video').duration") - 2) < 0.05
        page.evaluate("document.querySelector('video').currentTime = 1.5")
        until(page, f"{TIME} >= 1.5 && !document.querySelector('video').seeking")


def test_by_keyboard_alone(browser, served, scored):
    """From the address to another number of keyframes, without a mouse."""
    with opened(browser, served) as page:

        def tab_to(selector):
            for _ in range(80):
                page.keyboard.press("Tab")
                if page.evaluate("(one) => document.activeElement?.matches(one)", selector):
                    return
            raise AssertionError(f"{selector} is not reached by Tab")

        tab_to(".skip")
        page.wait_for_selector(f'a[href="/videos/{scored}"]')
        tab_to(f'a[href="/videos/{scored}"]')
        page.keyboard.press("Enter")
        page.wait_for_selector("#strip li")
        tab_to("#curve")
        page.keyboard.press("End")
        tab_to("[name=method]")
        page.keyboard.press("ArrowDown")
        page.wait_for_selector("[name=k]")
        tab_to("[name=k]")
        page.keyboard.type("2")
        until(page, "document.querySelectorAll('#strip li').length === 2")
        tab_to("#strip .tools button:nth-child(2)")
        page.keyboard.press("Enter")
        until(page, "document.querySelectorAll('#strip li').length === 1")
        assert page.evaluate("document.activeElement.matches('#strip .tools button:nth-child(2)')")  # of the next one


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_anyone_and_fits_a_phone(browser, served, scored, scheme):
    axe = pytest.importorskip("axe_core_python.sync_playwright").Axe()
    with opened(browser, served, color_scheme=scheme, viewport={"width": 360, "height": 740}) as page:
        for place in ("/", f"/videos/{scored}"):
            page.goto(served.address + place)
            page.wait_for_selector(".card" if place == "/" else "#strip li")
            page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
            found = axe.run(page)["violations"]
            assert not [one["id"] for one in found if one["impact"] in ("serious", "critical")], found
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
