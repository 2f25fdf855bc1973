// The demo as somebody sees it who tries it for the first time: Chromium, clicks, and what each person gets to see.
//
//   node login.mjs <portcullis> <folder for screenshots>
//
// Starts `portcullis demo` on a free port, and holds it to every cell of the table that it prints.

import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import assert from 'node:assert/strict';
import { freePort, launch } from './chromium.mjs';

const [binary, screenshots] = process.argv.slice(2);
assert(binary && screenshots, 'usage: node login.mjs <portcullis> <folder for screenshots>');
mkdirSync(screenshots, { recursive: true });

const port = await freePort();
const demo = spawn(binary, ['demo', '--port', String(port)], { stdio: ['ignore', 'pipe', 'pipe'] });
let said = '';
for (const stream of [demo.stdout, demo.stderr]) stream.on('data', (bytes) => (said += bytes));
let browser;
try {
  const { pages, people } = await promises();
  const first = pages[0];
  const allowed = people.find((person) => person.sees[first.name] === 'opens');
  const refused = people.find((person) => Object.values(person.sees).includes('refused'));
  assert(pages.length >= 3 && people.length >= 4 && allowed && refused, said);
  browser = await launch();
  for (const person of people) {
    for (const page of pages.filter(({ name }) => name in person.sees)) await visit(page, person, true);
    await visit(pages.findLast(({ name }) => name in person.sees), person, false);
  }
  await withoutLogin(pages.find(({ name }) => !(name in allowed.sees)));
  await severalTabs(first.url, allowed);
  await logout(first.url, allowed);
  await phoneInTheDark(pages.find(({ name }) => refused.sees[name] === 'refused').url, refused);
  console.log('the demo shows everybody what it should');
} catch (error) {
  console.error(`--- portcullis said\n${said.slice(-4000)}`);
  throw error;
} finally {
  await browser?.close();
  if (demo.exitCode === null) {
    const ended = new Promise((resolve) => demo.on('exit', resolve));
    demo.kill('SIGINT');
    await ended;
  }
}

async function visit({ name, url }, person, javaScriptEnabled) {
  const promised = person.sees[name];
  const what = `${person.name} at ${name} with${javaScriptEnabled ? '' : 'out'} JavaScript`;
  const context = await browser.newContext({ javaScriptEnabled });
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));

  const opened = new URL('some/page?with=query', url).href;
  await page.goto(opened);
  await chooseProvider(page);
  const status = await signIn(page, person);
  const text = await page.innerText('body');
  if (promised === 'opens') {
    assert.equal(status, 200, what);
    assert.equal(page.url(), opened, `${what} is on the page first asked for`);
    assert.match(text, person.email, `${what}: the application knows who it is`);
    await page.screenshot({ path: path.join(screenshots, 'application.png') });
  } else {
    assert(status >= 400 && status < 500, `${what}: ${status}`);
    assert.match(text, /request id/i, what);
    if (promised === 'refused') {
      assert.equal(status, 403, what);
      assert.match(text, person.email, `${what}: the page says who is signed in`);
      await page.screenshot({ path: path.join(screenshots, 'denied.png') });
    }
  }
  // The browser itself reports a refusal.
  const real = complaints.filter((complaint) => !/status of 4\d\d/.test(complaint));
  assert.deepEqual(real, [], `${what}: the console is quiet`);
  await context.close();
}

async function withoutLogin({ url }) {
  const context = await browser.newContext();
  const page = await context.newPage();
  const response = await page.goto(url);
  assert.deepEqual([response.status(), page.url()], [200, url], 'what is open is open');
  await context.close();
}

/** Passes the list of providers where there is one. */
async function chooseProvider(page) {
  if (!new URL(page.url()).pathname.startsWith('/cdn-cgi/access/login/')) return;
  await page.screenshot({ path: path.join(screenshots, 'login.png') });
  await page.locator('a.choice').first().click();
  await page.waitForLoadState();
}

/** Clicks on a person at the demo's provider, waits until it leads no further, and gives the status of where that is. */
async function signIn(page, { name }) {
  const choice = page.getByRole('button', { name }).or(page.getByRole('link', { name })).first();
  await choice.waitFor();
  const provider = new URL(page.url()).host;
  let status;
  page.on('response', (response) => {
    if (response.request().isNavigationRequest()) status = response.status();
  });
  await choice.click();
  await page.waitForURL(({ host, pathname }) => host !== provider && !pathname.endsWith('/cdn-cgi/access/authorized'));
  await page.waitForLoadState();
  return status;
}

async function severalTabs(start, person) {
  const context = await browser.newContext();
  const tabs = await Promise.all([1, 2, 3].map(async (number) => {
    const page = await context.newPage();
    const url = new URL(`tab/${number}`, start).href;
    await page.goto(url);
    await chooseProvider(page);
    return { page, url };
  }));
  for (const { page, url } of tabs.reverse()) {
    await signIn(page, person);
    assert.equal(page.url(), url, 'each tab lands on its own page');
  }
  await context.close();
}

async function logout(start, person) {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(start);
  await chooseProvider(page);
  await signIn(page, person);
  await page.goto(new URL('/cdn-cgi/access/logout', start).href);
  const confirm = page.getByRole('button', { name: /sign out/i });
  if (await confirm.count()) await confirm.click();
  await page.waitForLoadState();
  assert.match(await page.innerText('body'), /signed out/i);
  await page.goto(start);
  assert.notEqual(new URL(page.url()).host, new URL(start).host, 'after signing out the application asks again');
  await context.close();
}

async function phoneInTheDark(start, person) {
  const viewport = { width: 360, height: 640 };
  const context = await browser.newContext({ viewport, colorScheme: 'dark', isMobile: true, hasTouch: true });
  const page = await context.newPage();
  await page.goto(start);
  await chooseProvider(page);
  await signIn(page, person);
  const [width, background] = await page.evaluate(() => {
    return [document.documentElement.scrollWidth, getComputedStyle(document.documentElement).backgroundColor];
  });
  assert(width <= viewport.width, `the page is ${width} wide on a phone of ${viewport.width}`);
  const body = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = [background, body].some((colour) => {
    const channels = colour.match(/[\d.]+/g).map(Number);
    return channels.length === 3 && Math.max(...channels) < 100;
  });
  assert(dark, `dark is not dark: ${background}, ${body}`);
  await page.screenshot({ path: path.join(screenshots, 'phone.png') });
  await context.close();
}

/** What the demo prints: the pages to open, and for each person what they will see at each of them. */
async function promises() {
  for (let tries = 0; !said.includes('serving'); tries += 1) {
    assert(demo.exitCode === null && tries < 300, `the demo does not start: ${said}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const lines = said.split('\n');
  const pages = lines.flatMap((line) => {
    const [, url, name] = line.match(/^\s*(http:\/\/([\w-]+)\.localhost:\d+)\s{2,}\S/) ?? [];
    return url ? [{ name, url: `${url}/` }] : [];
  });
  const names = pages.map(({ name }) => name);
  const columns = lines.map((line) => line.trim().split(/\s+/)).find((words) => words.every((word) => names.includes(word)));
  assert(columns, `no table: ${said}`);
  const outcome = '(?:opens|refused|no login)';
  const row = new RegExp(`^\\s*(\\w+ \\w+)\\s{2,}\\S.*?\\s{2,}(${outcome}(?:\\s+${outcome})*)\\s*$`);
  const people = lines.flatMap((line) => {
    const [, name, outcomes] = line.match(row) ?? [];
    if (!name) return [];
    const cells = outcomes.match(new RegExp(outcome, 'g'));
    const sees = Object.fromEntries(columns.map((column, i) => [column, cells[i]]));
    return [{ name: new RegExp(name, 'i'), email: new RegExp(`${name.split(' ')[0]}@`, 'i'), sees }];
  });
  return { pages, people };
}
