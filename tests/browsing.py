"""What visitors do on the page in a browser, and what they see there."""

import re

from playwright.sync_api import expect

WIDE, PHONE = {"width": 1400, "height": 1000}, {"width": 390, "height": 844}
TABLET = {"width": 820, "height": 1180}


def button(page, name):
    """Find the button of that name."""
    return page.get_by_role("button", name=name, exact=True)


def ready(page):
    """Wait until the page has drawn the example's picture and chart, and the server has answered it."""
    for drawn in ("#content img", "#style img", "#comparison img", "#chart .js-plotly-plot"):
        expect(page.locator(drawn).first).to_be_visible()
    expect(page.locator("#backbone")).to_contain_text("Read by")


def set_number(page, label, value):
    """Type into the number box of a slider."""
    box = page.get_by_role("spinbutton", name=re.compile(label)).locator("visible=true").first
    box.fill(str(value))
    box.press("Enter")


def quick(page, size=128, iterations=40):
    set_number(page, "Size", size)
    set_number(page, "Iterations", iterations)


def save(page, path, form=None):
    """Take home what "Save as" offers; the name that the browser is given for it."""
    if form:
        page.get_by_label("Save as").click()
        page.get_by_role("option", name=form, exact=True).click()
        expect(button(page, "Preparing …").or_(button(page, "Save"))).to_be_visible()
        page.wait_for_timeout(300)
    expect(button(page, "Save")).to_be_enabled()
    with page.expect_download() as download:
        button(page, "Save").click()
    download.value.save_as(path)
    return download.value.suggested_filename


def stylize(page, **settings):
    """Make a short run, to its end."""
    quick(page, **settings)
    button(page, "Stylize").click()
    expect(page.locator(".status")).to_contain_text("Done")


def set_range(page, label, value):
    """Move a slider itself."""
    page.get_by_role("slider", name=re.compile(label)).first.fill(str(value))


def preview(page):
    """The address of the preview, None where there is none at this moment."""
    return page.evaluate("document.querySelector('#picture img')?.src")


def result(page):
    """The address of the picture beside the photo."""
    return page.evaluate("[...document.querySelectorAll('#comparison img')].at(-1)?.src")


def colors(page):
    """The mean red, green and blue of the result."""
    return page.evaluate(
        """async () => {
            const image = [...document.querySelectorAll('#comparison img')].at(-1);
            await image.decode();
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
            const mean = (values) => values.reduce((a, b) => a + b) / values.length;
            return [0, 1, 2].map((channel) => mean(data.filter((_, index) => index % 4 === channel)));
        }"""
    )


def chart_points(page):
    """How many steps each line of the chart shows."""
    return page.evaluate(
        "[...document.querySelectorAll('#chart .js-plotly-plot')].flatMap(p => p.data.map(t => t.x.length))"
    )


def chart_place(page):
    """How far below the top of the page the chart begins, in pixels."""
    top = "(chart) => chart.getBoundingClientRect().top + window.scrollY"
    return page.locator("#chart").evaluate(top)
