"""The pages in a real browser: Debian's chromium, driven by playwright."""

import json
import shutil

import pytest
from sample_report import sample_metrics, sample_report

from secateurs.utils.deploy.compare.grouping import entries
from secateurs.utils.deploy.compare.page import write_comparison
from secateurs.utils.deploy.compare.reading import find_reports
from secateurs.utils.deploy.pages.report import write_report

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
pytestmark = pytest.mark.slow
WIDTHS = (1280, 400)
SCHEMES = ('light', 'dark')


@pytest.fixture(scope='module')
def browser():
  if CHROMIUM is None:
    pytest.skip('there is no chromium')
  api = pytest.importorskip('playwright.sync_api')
  with api.sync_playwright() as playwright:
    opened = playwright.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
    yield opened
    opened.close()


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
  """Addresses of a report and of a comparison of three runs."""
  folder = tmp_path_factory.mktemp('pages')
  for name, learner, seed in (('a', 'chn-pruned', 0), ('b', 'chn-pruned', 1), ('c', 'agp', 0)):
    report = sample_report()
    report.update(learner=learner, seed=seed)
    log_dir = folder / name
    log_dir.mkdir()
    (log_dir / 'metrics.jsonl').write_text('\n'.join(sample_metrics()) + '\n')
    write_report(report, log_dir)
  compared = write_comparison(entries(find_reports([folder])), folder)
  return {
    'report': (folder / 'a' / 'report.html').as_uri(),
    'compare': compared['html'].as_uri(),
  }


@pytest.fixture(params=WIDTHS)
def opened(request, browser, pages):
  """A function that opens a page at this width, and fails if the page reports an error."""
  contexts, mistakes = [], []

  def open_(kind, scheme='light'):
    size = {'width': request.param, 'height': 900}
    contexts.append(browser.new_context(viewport=size, color_scheme=scheme))
    page = contexts[-1].new_page()
    page.on('console', lambda m: mistakes.append(m.text) if m.type == 'error' else None)
    page.on('pageerror', lambda error: mistakes.append(str(error)))
    page.goto(pages[kind])
    return page

  yield open_
  for context in contexts:
    context.close()
  assert not mistakes


@pytest.mark.parametrize('kind', ['report', 'compare'])
def test_nothing_is_cut_off(opened, kind):
  page = opened(kind)
  wide = page.evaluate(
    'document.documentElement.scrollWidth - document.documentElement.clientWidth'
  )
  assert wide <= 0
  assert page.locator('h1').bounding_box()['x'] >= 0
  # What is wider than the page scrolls inside a box that shows so.
  outside = page.evaluate(
    """[...document.querySelectorAll('table, svg')]
      .filter(e => !e.closest('.scroll, details') && e.getBoundingClientRect().right > innerWidth)
      .map(e => e.outerHTML.slice(0, 80))"""
  )
  assert outside == []


def test_one_plot_at_a_time(opened):
  page = opened('compare')
  figures = page.locator('.switch figure')
  assert figures.count() > 1
  assert [figure.is_visible() for figure in figures.all()] == [True] + [False] * (
    figures.count() - 1
  )
  page.get_by_label('latency', exact=True).check()
  assert [figure.is_visible() for figure in figures.all()].index(True) == 1
  page.get_by_label('all', exact=True).check()
  assert all(figure.is_visible() for figure in figures.all())


def test_names_stay_where_a_narrow_table_scrolls(opened):
  page = opened('compare')
  box, name = page.locator('.scroll').first, page.locator('.scroll tbody th').first
  before = name.bounding_box()['x']
  moved = box.evaluate('box => { box.scrollLeft = 200; return box.scrollLeft }')
  narrow = page.viewport_size['width'] < 620
  assert (moved > 0) == narrow
  assert name.bounding_box()['x'] == before


@pytest.mark.parametrize('scheme', SCHEMES)
@pytest.mark.parametrize('kind', ['report', 'compare'])
def test_axe_finds_nothing_serious(opened, kind, scheme):
  axe = pytest.importorskip('axe_playwright_python.sync_playwright')
  page = opened(kind, scheme)
  for details in page.locator('details').all():
    details.evaluate('element => { element.open = true }')
  found = axe.Axe().run(page).response['violations']
  serious = [
    (v['id'], v['help'], [node['html'][:90] for node in v['nodes'][:3]])
    for v in found
    if v['impact'] in ('serious', 'critical')
  ]
  assert serious == [], json.dumps(serious, indent=1)
